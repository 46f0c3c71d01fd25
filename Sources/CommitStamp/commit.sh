# Writes BuiltCommit.swift into the folder $1, only where it changes: the commit of the checkout, with a plus where tracked
# files differ from it, or of the archive that git made the sources into, or nothing.
set -eu
cd "$(dirname "$0")"
commit='$Format:%H$'
case $commit in
*Format*)
  # A checkout of this repository, not one that happens to lie around it.
  if git ls-files --error-unmatch commit.sh >/dev/null 2>&1; then
    commit=$(git rev-parse HEAD)
    git diff --quiet HEAD -- ../.. || commit=$commit+
  else
    commit=
  fi ;;
esac
text="/// The commit that the program was built from; empty where nothing says it.
enum BuiltCommit { static let name = \"$commit\" }"
mkdir -p "$1"
[ "$(cat "$1/BuiltCommit.swift" 2>/dev/null)" = "$text" ] || printf '%s\n' "$text" >"$1/BuiltCommit.swift"
