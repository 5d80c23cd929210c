# Sets dir to the folder where the tests look for engines: $INFERPICK_ENGINES, or else
# inferpick/engines in the user's cache folder. It is made if it is missing.
dir=${INFERPICK_ENGINES:-}
if [ -z "$dir" ]; then
	case $(uname) in
	Darwin) cache=$HOME/Library/Caches ;;
	*) cache=${XDG_CACHE_HOME:-$HOME/.cache} ;;
	esac
	dir=$cache/inferpick/engines
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
