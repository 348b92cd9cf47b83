"""LAMB as in the published ALBERT code; its moments and weight decay are also those of AdamW.

    m <- beta1 m + (1 - beta1) g
    v <- beta2 v + (1 - beta2) g^2
    u  = m / (sqrt(v) + epsilon) + weight_decay w
    w <- w - learning_rate ratio u

m and v are Adam's moments (arXiv 1412.6980, Algorithm 1); the published code has no bias
correction. The weight decay is decoupled (AdamW, arXiv 1711.05101, Algorithm 2, line 12). LAMB
(arXiv 1904.00962, Algorithm 2) sets ratio = |w| / |u| for each variable; AdamW has ratio = 1.
"""

import re
from typing import NamedTuple, Tuple

import tensorflow.compat.v1 as tf

from ops.xla import compile_function

EXCLUDE_FROM_WEIGHT_DECAY = ("LayerNorm", "layer_norm", "bias")


def densify(gradient, variable):
    """Return `gradient` as a tensor of the variable's shape; equal rows of a sparse one are summed.

    Args:
      gradient: float Tensor, or tf.IndexedSlices over the variable's first dimension.
      variable: the variable of the gradient.
    """
    if isinstance(gradient, tf.IndexedSlices):
        rows = variable.shape.as_list()[0]
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, rows)
    return gradient


class MomentOptimizer(tf.train.Optimizer):
    """The update of this module's docstring with ratio = 1; a subclass may give another ratio.

    The moments are slots named `<variable>/<slot name>`, as in published checkpoints. A sparse
    gradient is made dense first, because the published code decays the moments of every row, and
    because weight decay and trust ratio concern the whole variable.
    """

    slot_names = ("adam_m", "adam_v")

    def __init__(
        self,
        learning_rate,
        weight_decay=0.01,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-6,
        exclude_from_weight_decay=EXCLUDE_FROM_WEIGHT_DECAY,
        fused=False,
        rate_factors=(),
        name=None,
    ):
        """Make an optimizer.

        Args:
          learning_rate: float, scalar float Tensor, or callable that returns one.
          weight_decay: float, multiplied by the learning rate; 0 for none.
          beta1: float in [0, 1), decay of the first moment.
          beta2: float in [0, 1), decay of the second moment.
          epsilon: float > 0, added to the root of the second moment.
          exclude_from_weight_decay: regular expressions; a variable is not decayed if one of them
            matches a part of its name (`re.search`).
          fused: bool, compile the update by XLA, which is faster on a CPU.
          rate_factors: pairs (prefix of a variable's name, factor of its learning rate); the
            first match counts; the factor is 1 without a match.
          name: name scope of the update; default: the class name.
        """
        super().__init__(use_locking=False, name=name or type(self).__name__)
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._beta1 = beta1
        self._beta2 = beta2
        self._epsilon = epsilon
        self._exclude_from_weight_decay = tuple(exclude_from_weight_decay)
        self._run = compile_function if fused else lambda function: function
        self._rate_factors = tuple(rate_factors)
        self.ratios = {}  # Variable's name to its trust ratio, float32 [].

    def apply_reduced_gradients(
        self, strategy, grads_and_vars, global_step, scale=None, is_taken=None
    ):
        """Apply gradients that are already summed over the replicas, and count one step.

        The inherited `apply_gradients` sums gradients itself, but clipping needs the sums earlier.

        Args:
          strategy: the tf.distribute strategy; called in its cross-replica context.
          grads_and_vars: list of (gradient, variable); gradients are dense, and mirrored as
            the variables are.
          global_step: integer variable, incremented by one after the update.
          scale: float32 scalar Tensor that the gradients are multiplied with; None for 1.
          is_taken: bool scalar Tensor; if False, variables and slots keep their values, but the
            step is still counted. None for True.

        Returns:
          An operation.
        """

        def update(variable, gradient):
            return self._apply_dense(gradient, variable, scale, is_taken)

        with tf.name_scope(self.get_name()):
            with tf.init_scope():
                self._create_slots([variable for _, variable in grads_and_vars])
            self._prepare()
            updates = [strategy.extended.update(v, update, args=(g,)) for g, v in grads_and_vars]
            with tf.control_dependencies(updates):
                return strategy.extended.update(global_step, lambda step: step.assign_add(1).op)

    def _create_slots(self, var_list):
        # A new VariableScope is the root scope: no scope or custom getter of the caller changes it.
        with tf.variable_scope(tf.VariableScope(reuse=False)):
            for var in var_list:
                for slot_name in self.slot_names:
                    self._zeros_slot(var, slot_name, slot_name)

    def _prepare(self):
        learning_rate = self._call_if_callable(self._learning_rate)
        self._learning_rate_tensor = tf.convert_to_tensor(learning_rate, name="learning_rate")

    def _apply_dense(self, grad, var, scale=None, is_taken=None):
        variables = [self.get_slot(var, slot_name) for slot_name in self.slot_names] + [var]
        old = [tf.convert_to_tensor(variable) for variable in variables]
        rate = self._rate_factor(var) * tf.cast(self._learning_rate_tensor, old[-1].dtype)
        constants = {
            "beta1": self._beta1,
            "beta2": self._beta2,
            "epsilon": self._epsilon,
            "weight_decay": self._weight_decay if self._is_decayed(var) else 0.0,
        }
        new = self._next_values(var, rate, (grad, scale, *old), constants)
        if is_taken is not None:
            new = [tf.where_v2(is_taken, *pair) for pair in zip(new, old)]
        return tf.group(*[variable.assign(value) for variable, value in zip(variables, new)])

    def _next_values(self, var, rate, tensors, constants):
        """Return the next m, v and w of a variable, for ratio = 1.

        Args:
          var: the variable.
          rate: scalar tensor, its learning rate.
          tensors: the tensors that `_next_moments` takes.
          constants: dict of float, the other arguments of `_next_moments`.
        """
        del var
        return self._run(_moved)(rate, *tensors, **constants)

    def _resource_apply_dense(self, grad, handle):
        return self._apply_dense(grad, handle)

    def _apply_sparse(self, grad, var):
        return self._apply_dense(densify(grad, var), var)

    def _resource_apply_sparse(self, grad, handle, indices):
        return self._apply_sparse(tf.IndexedSlices(grad, indices), handle)

    # `densify` sums equal rows, so the base class need not make them unique first.
    _apply_sparse_duplicate_indices = _apply_sparse
    _resource_apply_sparse_duplicate_indices = _resource_apply_sparse

    def _is_decayed(self, var):
        """Return whether weight decay applies to the variable."""
        name = _name(var)
        return not any(re.search(pattern, name) for pattern in self._exclude_from_weight_decay)

    def _rate_factor(self, var):
        name = _name(var)
        return next((factor for start, factor in self._rate_factors if name.startswith(start)), 1.0)


def _next_moments(grad, scale, m, v, weights, beta1, beta2, epsilon, weight_decay):
    """Return the next m and v, and the update u, as defined in the module's docstring."""
    grad = grad if scale is None else scale * grad
    next_m = beta1 * m + (1.0 - beta1) * grad
    next_v = beta2 * v + (1.0 - beta2) * tf.square(grad)
    update = next_m / (tf.sqrt(next_v) + epsilon)
    return next_m, next_v, update + weight_decay * weights if weight_decay else update


def _stepped(weights, step_size, update):
    return weights - step_size * update


def _moved(rate, grad, scale, m, v, weights, **constants):
    """Return the next m, v and w for ratio = 1; XLA then stores no update u."""
    next_m, next_v, update = _next_moments(grad, scale, m, v, weights, **constants)
    return next_m, next_v, _stepped(weights, rate, update)


def _name(variable):
    """Return a variable's name, the same one on every replica."""
    return re.sub(r"(/replica_\d+)?:\d+$", "", variable.name)


class Scheme(NamedTuple):
    """The differences between the published versions of LAMB."""

    slot_names: Tuple[str, str]
    adapts_excluded: bool  # Trust ratio for variables without weight decay, too.


SCHEMES = {
    "albert_zh": Scheme(slot_names=("lamb_m", "lamb_v"), adapts_excluded=True),
    "google": Scheme(slot_names=("adam_m", "adam_v"), adapts_excluded=False),
}


class LAMBOptimizer(MomentOptimizer):
    """LAMB (arXiv 1904.00962, Algorithm 2) with phi(z) = z, in either published scheme."""

    def __init__(self, learning_rate, slots="albert_zh", **moments):
        """Make an optimizer.

        Args:
          learning_rate: float, scalar float Tensor, or callable that returns one.
          slots: key of SCHEMES: the code base whose slot names and trust ratios are used.
          **moments: the other arguments of `MomentOptimizer`.
        """
        super().__init__(learning_rate, **moments)
        self.slot_names, self._adapts_excluded = SCHEMES[slots]

    def _next_values(self, var, rate, tensors, constants):
        if not (self._adapts_excluded or self._is_decayed(var)):
            return super()._next_values(var, rate, tensors, constants)
        weights = tensors[-1]
        next_m, next_v, update = self._run(_next_moments)(*tensors, **constants)
        step_size = rate * self._ratio(weights, update, var)
        return next_m, next_v, self._run(_stepped)(weights, step_size, update)

    def _ratio(self, weights, update, var):
        """Return the trust ratio |w| / |u|, float32 []; 1 where either norm is 0."""
        # tf.nn.l2_loss is half the squared norm, in a single pass.
        weight, change = tf.nn.l2_loss(weights), tf.nn.l2_loss(update)
        both = tf.logical_and(weight > 0.0, change > 0.0)
        ratio = tf.where(both, tf.sqrt(weight / change), tf.ones_like(weight))
        self.ratios.setdefault(_name(var), ratio)  # The ratio is equal on all replicas.
        return ratio
