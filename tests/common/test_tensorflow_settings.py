"""TensorFlow's settings: the environment has them before TensorFlow is imported."""

import ast
import os

import pytest

from common import tensorflow_settings

SCRIPTS = (
    "convert_checkpoint.py",
    "export_model.py",
    "plot_training.py",
    "predict.py",
    "run_classifier.py",
    "run_mrc.py",
    "run_ner.py",
    "run_pretraining.py",
    "test_changes.py",
    "benchmarks/finetune.py",
    "benchmarks/train_step.py",
    "recipes/clue.py",
    "serving/predictor.py",
)


def test_a_setting_of_the_user_stays(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    tensorflow_settings.set_environment()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_set_the_environment_before_other_imports(root, script):
    # Most modules of this project import TensorFlow; those of common/ do not.
    imported = set()
    for statement in ast.parse((root / script).read_text()).body:
        if "set_environment" in ast.dump(statement):
            break
        if isinstance(statement, ast.Import):
            imported.update(name.name.split(".")[0] for name in statement.names)
        if isinstance(statement, ast.ImportFrom):
            imported.add(statement.module.split(".")[0])
    else:
        pytest.fail("never sets the environment")
    ours = {path.stem for path in root.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not imported & (ours | {"tensorflow"}) - {"common"}
