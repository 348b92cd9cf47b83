# Read by the recipes that skip stages whose results exist.
set -euo pipefail

# refuse_other_texts OUTPUT_DIR FILE...: ends with status 2 if a file does not exist, or if the run
# in OUTPUT_DIR began with other texts, because its stages would continue with the other texts.
refuse_other_texts() {
  local out=$1 sum file
  shift
  for file; do
    if [ ! -f "$file" ]; then
      echo "$(basename "$0"): error: $file does not exist, or is not a file" >&2
      exit 2
    fi
  done
  sum=$(cat "$@" | cksum)
  mkdir -p "$out"
  if [ -e "$out/texts.cksum" ] && [ "$(cat "$out/texts.cksum")" != "$sum" ]; then
    echo "$(basename "$0"): error: OUTPUT_DIR $out holds a run on other texts: give another" >&2
    exit 2
  fi
  echo "$sum" > "$out/texts.cksum"
}
