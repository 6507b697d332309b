# shellcheck shell=bash
# Sourced by run_all.sh, run_tests.sh and .ci/run: finds the study's Python environment, or makes it.
#
#   find_python          a Python that can carry the study
#   take_run_lock        one run at a time in this folder
#   set_up MODULE...     sets PY: a Python with vitstudy from this folder and those modules
#
# The bash 3.2 of macOS is enough. What a user has to mend ends in one line on stderr and exit code 2.

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
state=$venv/vitstudy-state # line 1: what .venv was made for; line 2: what is in it, or "installing"

# Packages from elsewhere would stand before the pinned ones, and no record would say so.
unset PYTHONPATH PYTHONHOME

say() { echo "${0##*/}: $*" >&2; }

die() {
    say "$@"
    exit 2
}

# --- which Python --------------------------------------------------------------------------------

# Prints "3.12.1 /its/base/interpreter"; fails where it does not run, as a pyenv shim of a version
# that is switched off does. The options are those that every Python since 2.7 knows.
describe() {
    "$1" -E -s -S -c 'import sys
print("%d.%d.%d" % sys.version_info[:3] + " " + getattr(sys, "_base_executable", sys.executable))' \
        2>/dev/null </dev/null
}

# Sets python_base and python_version ("3.12"). Of .venv's Python it takes the interpreter behind it:
# that one is still there when .venv is made anew.
find_python() {
    local name info found=""
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- "$venv/bin/python" python3 python python3.13 python3.12 python3.11
    fi
    for name in "$@"; do
        command -v -- "$name" >/dev/null 2>&1 || continue
        if ! info=$(describe "$name"); then
            found="$found, $name (does not run)"
            continue
        fi
        case $info in
            3.11.* | 3.12.* | 3.13.*) # pyproject.toml's requires-python
                python_base=${info#* }
                python_version=${info%% *}
                python_version=${python_version%.*}
                "$name" -I -S -c 'import fcntl' 2>/dev/null ||
                    die "vitstudy runs on Linux, macOS and WSL: this system has no locks on files (fcntl)"
                return
                ;;
        esac
        found="$found, $name (${info%% *})"
    done
    found=${found#, }
    if [ -n "${PYTHON:-}" ]; then
        found="PYTHON=${found:-$PYTHON (not found)}"
    fi
    die "no suitable Python: found ${found:-none}; valid are 3.11 to 3.13;" \
        "install one, or name one: PYTHON=/path/to/python3.12 $0"
}

# --- locks ---------------------------------------------------------------------------------------

# lock FD try|wait: flock(1) is not everywhere. The lock belongs to the open file, which this shell
# keeps open and hands on by exec; it ends with the last process that has the file open.
lock() {
    "$python_base" -I -S -c 'import fcntl, sys
try:
    fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX | (fcntl.LOCK_NB if sys.argv[2] == "try" else 0))
except BlockingIOError:
    sys.exit(1)
except OSError as error:
    print(f"warning: no locks on this file system ({error}): start one run at a time", file=sys.stderr)' \
        "$1" "$2"
}

take_run_lock() {
    { exec 9<>"$root/.run.lock"; } 2>/dev/null ||
        die "cannot write $root/.run.lock; the study writes into its own folder: make it writable"
    lock 9 try ||
        die "a run is already going in $root (process $(cat "$root/.run.lock"));" \
            "one at a time: wait for it, or end it, then start this again"
    echo $$ >"$root/.run.lock"
}

# --- the environment -----------------------------------------------------------------------------

# has_study PYTHON MODULE...: has it vitstudy from this very folder, and the modules? Imports nothing.
has_study() {
    local python=$1
    shift
    "$python" -I -c 'import importlib.util, os, sys
root, *modules = sys.argv[1:]
vitstudy = importlib.util.find_spec("vitstudy")
fits = (
    (3, 11) <= sys.version_info[:2] <= (3, 13)
    and vitstudy is not None
    and vitstudy.origin is not None
    and os.path.realpath(os.path.dirname(os.path.dirname(vitstudy.origin))) == os.path.realpath(root)
    and all(importlib.util.find_spec(module) for module in modules)
)
sys.exit(not fits)' "$root" "$@" 2>/dev/null
}

# Without UV_TORCH_BACKEND an environment keeps the PyTorch it was made with: asked once is enough.
wanted_for() {
    local recorded=""
    if [ -f "$state" ]; then
        read -r _ recorded _ <"$state" || true
    fi
    echo "$python_version ${UV_TORCH_BACKEND:-${recorded:-default}} $root"
}

wanted_in() { cat "$root/pyproject.toml" "$root/requirements.lock" | cksum; }

venv_is_current() {
    [ -x "$venv/bin/python" ] && [ -f "$state" ] &&
        [ "$(cat "$state")" = "$(wanted_for && wanted_in)" ]
}

write_state() {
    { printf '%s\n' "$@" >"$state.new" && mv -f "$state.new" "$state"; } 2>/dev/null ||
        die "set-up: cannot write into $venv; free some space, or make it writable, and run this again"
}

# install_into_venv fresh|refresh BACKEND, in a subshell: the study itself sees the user's variables as
# they were. What says where to find packages stays (indexes, proxies, caches); what says what goes
# where is the lock's business.
install_into_venv() (
    exec 9>&- # the run's lock is not for an installer that outlives a killed run; the set-up's is
    for name in ${!PIP_*} ${!UV_*}; do
        case $name in
            PIP_USER | PIP_TARGET | PIP_PREFIX | PIP_ROOT | PIP_PYTHON | PIP_REQUIRE_* | PIP_REQUIREMENT) ;;
            PIP_CONSTRAINT | PIP_BUILD_CONSTRAINT | PIP_EDITABLE | PIP_NO_DEPS | PIP_DRY_RUN | PIP_PRE) ;;
            PIP_ONLY_BINARY | PIP_NO_BINARY | PIP_UPLOADED_PRIOR_TO | PIP_ONLY_DEPS) ;;
            UV_SYSTEM_PYTHON | UV_BREAK_SYSTEM_PACKAGES | UV_PYTHON | UV_PYTHON_PREFERENCE) ;;
            UV_MANAGED_PYTHON | UV_NO_MANAGED_PYTHON | UV_PROJECT* | UV_WORKING_DIR* | UV_VENV_*) ;;
            UV_CONSTRAINT | UV_BUILD_CONSTRAINT | UV_OVERRIDE | UV_EXCLUDE* | UV_RESOLUTION) ;;
            UV_PRERELEASE | UV_REQUIRE_HASHES | UV_NO_BUILD* | UV_NO_BINARY* | UV_NO_SOURCES*) ;;
            UV_NO_EDITABLE | UV_NO_VERIFY_HASHES | UV_DRY_RUN | UV_TORCH_BACKEND) ;;
            *) continue ;;
        esac
        unset "$name"
    done
    if [ "$2" != default ]; then
        export UV_TORCH_BACKEND=$2
    fi
    cd -- "$root" || exit

    # A uv that does not run, or that knows no torch backend, is as good as none.
    case $(uv pip install --help 2>/dev/null) in
        *--torch-backend*)
            uv=uv
            if [ "$1" = fresh ]; then
                uv venv --allow-existing --python "$python_base" "$venv" || exit
            fi
            ;;
        *)
            uv=$venv/bin/uv
            if [ ! -x "$uv" ]; then
                "$python_base" -m venv "$venv" && "$venv/bin/python" -m pip install 'uv>=0.7' || exit
            fi
            ;;
    esac
    # Compiled once here, not by every process where Python may not write what it compiled.
    install_pinned() {
        "$uv" pip install --compile-bytecode --python "$venv/bin/python" \
            -c requirements.lock -b requirements.lock -e '.[study,test]'
    }
    # uv brings its own certificates; a registry behind a company's own needs the system's.
    install_pinned || {
        grep -q 'invalid peer certificate' "$venv/setup.log" &&
            UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 install_pinned
    }
)

make_venv() {
    local made_for made_in="" how wanted reason
    { exec 8<>"$root/.setup.lock"; } 2>/dev/null ||
        die "cannot write $root/.setup.lock; the study keeps its environment in its own folder: make it writable"
    if ! lock 8 try; then
        say "set-up: waiting for another one in this folder"
        lock 8 wait
    fi
    if venv_is_current; then # the other one's work
        exec 8>&-
        return
    fi
    if [ -d "$venv" ] && [ ! -f "$state" ] && [ -n "$(ls -A "$venv")" ]; then
        die "set-up: $venv is not of this script's making, and lacks the study's packages;" \
            "remove it, or activate it and run: pip install -c requirements.lock -e '.[study,test]'"
    fi
    wanted=$(wanted_for)
    if [ -f "$state" ]; then
        { read -r made_for && read -r made_in; } <"$state" || true
    fi
    how=fresh
    if [ "${made_for:-}" = "$wanted" ] && [ "$made_in" != installing ] && [ -x "$venv/bin/python" ]; then
        how=refresh # whole, for this Python, PyTorch and folder: what the user added to it may stay
    fi

    mkdir -p "$venv" 2>/dev/null ||
        die "set-up: cannot make $venv; free some space, or make $root writable, and run this again"
    write_state "$wanted" installing
    if [ "$how" = fresh ]; then
        # An install that was killed leaves packages that look whole. The state goes last of all.
        find "$venv/." -mindepth 1 -maxdepth 1 ! -name "${state##*/}" -exec rm -rf {} +
    fi
    say "set-up: installing the pinned packages into $venv (once, some minutes)"
    made_for=${wanted#* } # BACKEND ROOT
    if ! install_into_venv "$how" "${made_for%% *}" >"$venv/setup.log" 2>&1 </dev/null ||
        ! has_study "$venv/bin/python" "$@"; then
        reason=$(grep -E '^error|^ERROR|[Cc]aused? ?(by)?:|×|ensurepip is not' "$venv/setup.log" | tail -n 1 |
            sed 's/^[[:space:]]*//') || true
        if [ "$how" = fresh ]; then
            write_state "$python_version default $root" installing # a backend that failed is not kept
        fi
        reason=${reason:-$(tail -n 1 "$venv/setup.log")}
        die "set-up: could not install: ${reason:-no reason given}; all that was printed is in" \
            "$venv/setup.log; check the network and the disk's free space, then run this again"
    fi
    write_state "$wanted" "$(wanted_in)"
    exec 8>&-
}

set_up() {
    local prefix python
    PY=""
    if [ -n "${PYTHON:-}" ]; then
        if ! [ "$(dirname -- "$PYTHON")" -ef "$venv/bin" ] && has_study "$PYTHON" "$@"; then
            PY=$(command -v -- "$PYTHON")
        fi
    else
        for prefix in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
            if [ -z "$PY" ] && [ -n "$prefix" ] && ! [ "$prefix" -ef "$venv" ] &&
                has_study "$prefix/bin/python" "$@"; then
                PY=$prefix/bin/python
            fi
        done
    fi
    if [ -z "$PY" ]; then
        if venv_is_current; then
            PY=$venv/bin/python
        elif [ ! -f "$state" ] && has_study "$venv/bin/python" "$@"; then
            PY=$venv/bin/python # made by hand
        elif [ -z "${PYTHON:-}" ] && python=$(command -v python) &&
            ! [ "$(dirname -- "$python")" -ef "$venv/bin" ] && has_study "$python" "$@"; then
            PY=$python
        else
            make_venv "$@"
            PY=$venv/bin/python
        fi
    fi
    case $PY in
        /*) ;;
        *) PY=$PWD/$PY ;;
    esac
    # The tools that the study calls by name are this environment's, and so are the notebooks' kernels.
    export PATH="${PY%/*}:$PATH" JUPYTER_PREFER_ENV_PATH=1
}
