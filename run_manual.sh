#!/usr/bin/env bash
#
# The entry point: runs a task or the tests in one of five configurations; checks and documents the project.
#
#   ./run_manual.sh local     tasks/simple.py --preset smoke   # in .venv, made on first use; no Docker
#   ./run_manual.sh jax-cpu   tasks/simple.py --seed 3         # in a container
#   ./run_manual.sh jax-gpu   tasks/simple.py                  # in a container that sees the GPUs
#   ./run_manual.sh torch-cpu tasks/benchmark.py               # in one with PyTorch and Hugging Face's libraries too
#   ./run_manual.sh torch-gpu tasks/benchmark.py               # the same with the GPUs
#   ./run_manual.sh local     thinking runs                    # the command `thinking`: list, run, runs, show, chat, ...
#   ./run_manual.sh local     test -k graph                    # pytest over tests/; what follows goes to pytest
#   ./run_manual.sh local     lint                             # ruff: format and rules
#   ./run_manual.sh local     docs                             # builds the documentation into build/site
#   ./run_manual.sh local     tasks/simple.py --debug --seed 3 # waits for a debugger on 127.0.0.1:43690
#
# Relative paths in flags are of the folder that it is called from. Without --artifacts, results lie in the project.
# Exits with the program's own status; 2 for a wrong call, 1 when the surroundings are at fault.
# Written for bash 3.2 and later, so that it runs on a bare macOS too.

set -euo pipefail

# The project's folder, also for a call through a link. With CDPATH, cd would print where it went.
find_root() {
  local source=${BASH_SOURCE[0]} target
  while [[ -L $source ]]; do
    target=$(readlink "$source")
    [[ $target == /* ]] || target=$(dirname "$source")/$target
    source=$target
  done
  CDPATH='' cd "$(dirname "$source")" && pwd
}

ROOT=$(find_root)
readonly ROOT CALLER=$PWD
readonly APP=/app         # where the project lies inside a container
readonly LAUNCHER=./run_manual.sh # in messages of programs that name a command
readonly DEBUG_PORT=43690 # .vscode/launch.json attaches here
readonly LOCK=requirements/local.lock # what .venv holds
readonly CONFIGURATIONS="local|jax-cpu|jax-gpu|torch-cpu|torch-gpu" # all but local have a Dockerfile
readonly USAGE="./run_manual.sh $CONFIGURATIONS FILE|thinking|test|lint|docs [--debug] [FLAGS...]"
readonly PYTHON_SOURCES=(src tasks tests docs notebooks) # what the linter reads
# The pinned jaxlib has wheels for these.
readonly PYTHON_OLDEST=3.11 PYTHON_NEWEST=3.14

say() { printf 'run_manual.sh: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
refuse() { say "$@"; exit 2; }

# ---------------------------------------------------------------------------- what to run

# Prints FILE as a path relative to the project, whatever separators it came with.
normalise() {
  local file=${1//\\//}
  file=${file#"$ROOT"/}
  printf '%s' "${file#./}"
}

require_file() {
  [[ -f $1 ]] && return
  local tasks
  tasks=$(find tasks -maxdepth 1 -name '[a-z]*.py' 2>/dev/null | sort | tr '\n' ' ') || tasks=
  refuse "there is no file '$1'; choose one of: ${tasks}thinking test lint docs"
}

# Whether FILE is to run in the caller's folder, as that is not the project's.
is_elsewhere() {
  case $1 in thinking | test | tests/* | lint | docs) return 1 ;; esac
  [[ ! $CALLER -ef $ROOT ]]
}

# Waits for a debugger, then runs what follows as Python would have. It says that it waits only once the port is
# open, so that an editor which attaches on seeing the line never comes too early.
readonly DEBUG_LAUNCHER='
import os, runpy, sys
import debugpy

host, port, target, *flags = sys.argv[1:]
try:
    debugpy.listen((host, int(port)))
except RuntimeError:
    sys.exit(f"run_manual.sh: port {port} is taken; end the other run that is being debugged")
print(f"debugpy: waiting on 127.0.0.1:{port}", file=sys.stderr, flush=True)
try:
    debugpy.wait_for_client()
except KeyboardInterrupt:
    sys.exit(130)
sys.argv = [target, *flags]
modules = {"test": "pytest", "thinking": "thinking.commands.__main__"}
if target in modules:
    sys.path[0] = os.getcwd()
    runpy.run_module(modules[target], run_name="__main__", alter_sys=True)
else:
    sys.path[0] = os.path.dirname(os.path.abspath(target))
    runpy.run_path(os.path.abspath(target), run_name="__main__")
'

# Sets `arguments` to what Python is called with. $1: the address a debugger may reach; then FILE and its flags.
python_arguments() {
  local host=$1 target=$2
  shift 2
  if [[ ${1-} == --debug ]]; then
    shift
    arguments=(-X frozen_modules=off -c "$DEBUG_LAUNCHER" "$host" "$DEBUG_PORT" "$target" "$@")
  elif [[ $target == test ]]; then
    arguments=(-m pytest "$@")
  elif [[ $target == thinking ]]; then
    arguments=(-m thinking.commands "$@")
  else
    arguments=("$target" "$@")
  fi
}

# ---------------------------------------------------------------------------- secrets

# Reads secrets.env as data: it is never run, and no value is ever printed. With $1 = export its variables join the
# environment, unless they are there already; with $1 = check its form is checked alone.
read_secrets() {
  [[ -f secrets.env ]] || return 0
  local line name number=0 form='^[A-Z][A-Z0-9_]*=([^"'"'"'[:space:]].*)?$'
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    line=${line%$'\r'}
    if [[ $number == 1 ]]; then line=${line#$'\xef\xbb\xbf'}; fi # a byte order mark, as some editors write it
    [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
    [[ $line =~ $form ]] || fail "secrets.env, line $number: write NAME=value, without quotes and spaces"
    name=${line%%=*}
    if [[ $1 == export && -z ${!name-} ]]; then export "${line?}"; fi
  done <secrets.env
  return 0
}

# Prints the names that secrets.env.example documents.
secret_names() { sed -n 's/^\([A-Z][A-Z0-9_]*\)=.*/\1/p' secrets.env.example; }

# ---------------------------------------------------------------------------- local

# Prints the first Python on PATH that is neither too old nor too new and has the module $1.
find_python() {
  local candidate
  for candidate in python3 python3.14 python3.13 python3.12 python3.11 python; do
    "$candidate" - "$PYTHON_OLDEST" "$PYTHON_NEWEST" "$1" >/dev/null 2>&1 <<'PYTHON' || continue
import importlib, sys
oldest, newest = (tuple(map(int, version.split("."))) for version in sys.argv[1:3])
importlib.import_module(sys.argv[3])
sys.exit(not oldest <= sys.version_info[:2] <= newest)
PYTHON
    printf '%s' "$candidate"
    return
  done
  return 1
}

# Prints the Python of .venv: its place depends on the system.
venv_python() {
  if [[ -n ${THINKING_VENV-} ]]; then printf '%s/bin/python' "$THINKING_VENV" # an image has its own
  elif [[ -x .venv/Scripts/python.exe ]]; then printf .venv/Scripts/python.exe
  else printf .venv/bin/python
  fi
}

# Prints what .venv would hold if it were up to date: its Python's version and the lock's hash.
venv_stamp() {
  "$(venv_python)" -I -S -c '
import hashlib, sys
lock = open(sys.argv[1], "rb").read()
print(*sys.version_info[:2], hashlib.sha256(lock).hexdigest())' "$LOCK" 2>/dev/null
}

venv_is_ready() { [[ -n ${THINKING_VENV-} || -s .venv/complete && $(venv_stamp) == "$(<.venv/complete)" ]]; }

# Prints the Python that can make .venv with its own means, or says what to do.
require_python() {
  local python
  find_python ensurepip && return
  python=$(find_python sys) ||
    fail "no Python $PYTHON_OLDEST to $PYTHON_NEWEST is on PATH; install one, or uv, and run this again"
  fail "$python cannot make a .venv; on Debian or Ubuntu: sudo apt install python3-venv (or install uv)"
}

# A lock is complete, and leaves out PyTorch, which one package asks for without need: so nothing is added to it.
readonly EXACTLY=(--no-deps --require-hashes --requirement "$LOCK")

install_with_uv() {
  uv venv --quiet --python "$1" .venv && uv pip install --quiet --python "$(venv_python)" "${EXACTLY[@]}"
}

install_with_pip() {
  local flags=(--disable-pip-version-check)
  [[ -t 2 ]] || flags+=(--quiet --quiet) # a person at a terminal likes to see the downloads
  "$1" -m venv .venv && "$(venv_python)" -m pip install "${flags[@]}" "${EXACTLY[@]}"
}

# The project itself is a path file in .venv: its sources are used as they lie, and nothing has to be built.
install_project() {
  "$(venv_python)" -c '
import os, pathlib, sysconfig
site = sysconfig.get_path("purelib")
pathlib.Path(site, "thinking.pth").write_text(os.path.relpath("src", site) + "\n")'
}

# Makes .venv anew, by uv if there is one. It counts as made only once its stamp is written, last.
make_venv() {
  local installer python
  if command -v uv >/dev/null; then
    installer=install_with_uv
    python=$(find_python sys) || python=3.12 # uv fetches one
  else
    installer=install_with_pip
    python=$(require_python) || exit 1
  fi
  say "making .venv from $LOCK (once, one to four minutes; nothing is printed meanwhile)"
  rm -rf .venv
  { "$installer" "$python" >&2 && install_project && venv_stamp >.venv/complete; } ||
    fail "could not make .venv, for the reason above; mend it and run this again"
}

# Two first runs at once: one makes .venv, the other waits for it. Without flock it says that it cannot wait.
ensure_venv() {
  [[ -z ${THINKING_VENV-} || -x $(venv_python) ]] || fail "THINKING_VENV=$THINKING_VENV has no bin/python; unset it"
  venv_is_ready && return
  (
    if ! command -v flock >/dev/null; then
      say "this system has no flock: start no other run until .venv is made"
    elif ! flock -n 9; then
      say "another run is making .venv; waiting for it"
      flock 9 || fail "cannot lock $LOCK, so two runs could make .venv at once; move the project to a local disk"
    fi
    venv_is_ready || make_venv
  ) 9<"$LOCK" || exit 1
}

run_linter() {
  "$(venv_python)" -m ruff format --check "${PYTHON_SOURCES[@]}"
  exec "$(venv_python)" -m ruff check "${PYTHON_SOURCES[@]}" "$@"
}

run_local() {
  local arguments python
  ensure_venv
  read_secrets export
  case $1 in
    lint) run_linter "${@:2}" ;;
    docs) export NO_MKDOCS_2_WARNING=1 && exec "$(venv_python)" -m mkdocs build --strict --site-dir build/site "${@:2}" ;;
  esac
  case $1 in tasks/* | thinking) export THINKING_LAUNCHER="$LAUNCHER local" ;; esac
  python=$(venv_python)
  if is_elsewhere "$1"; then
    python_arguments 127.0.0.1 "$ROOT/$1" "${@:2}"
    [[ $python == /* ]] || python=$ROOT/$python
    cd "$CALLER"
    exec "$python" "${arguments[@]}"
  fi
  python_arguments 127.0.0.1 "$@"
  exec "$python" "${arguments[@]}"
}

# ---------------------------------------------------------------------------- containers

# Sets `docker_user` to whom files written in a container should belong to: the caller.
require_docker() {
  local answer
  command -v docker >/dev/null || fail "Docker is not installed; install it, or use: ./run_manual.sh local"
  answer=$(docker info --format '{{.SecurityOptions}}' 2>&1) || case $answer in
    *'permission denied'*) fail "Docker is there but closed to you; join its group: sudo usermod -aG docker \$USER" ;;
    *) fail "the Docker daemon does not answer; start it (Docker Desktop, or: sudo systemctl start docker)" ;;
  esac
  docker_user=$(id -u):$(id -g)
  # Without root, Docker gives the caller's files to the container's root and hides all other users.
  if [[ $answer == *rootless* ]]; then docker_user=0:0; fi
}

# Builds Dockerfile.$1 as image $2. The first build takes minutes and is shown; later ones find everything cached.
build_image() {
  local build=(docker build --file "Dockerfile.$1" --tag "$2") output name
  # What PyTorch pip finds depends on its indexes. They are lent to the build, as an address may hold a password:
  # neither a command nor the image keeps them.
  for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    if [[ -n ${!name-} ]]; then build+=(--secret "id=$name,env=$name"); fi
  done
  if docker image inspect "$2" >/dev/null 2>&1; then
    output=$("${build[@]}" --quiet . 2>&1) || { printf '%s\n' "$output" >&2 && fail "could not build Dockerfile.$1"; }
  else
    say "building Dockerfile.$1 (once; some minutes)"
    "${build[@]}" . >&2 || fail "could not build Dockerfile.$1"
  fi
}

# Starts nothing with a GPU in image $2, to tell a missing GPU from a failing program. $1: the configuration.
require_gpu() {
  local driver=525 # for CUDA 12
  if [[ $1 == torch-gpu ]]; then driver=580; fi # for CUDA 13
  docker run --rm --gpus all --entrypoint true "$2" >/dev/null 2>&1 ||
    fail "Docker finds no GPU; install NVIDIA's driver ($driver or later) and Container Toolkit, or use ${1%gpu}cpu"
}

# Prints the folder that `--artifacts DIR` names among the flags, if any does.
artifacts_flag() {
  local flag previous='' folder=''
  for flag in "$@"; do
    if [[ $flag == --artifacts=* ]]; then folder=${flag#*=}; elif [[ $previous == --artifacts ]]; then folder=$flag; fi
    previous=$flag
  done
  printf '%s' "$folder"
}

# Adds a mount to `options`: of path $1 at the same place in the container, if it is absolute, else below `inside`.
# $2: :ro for one that can only be read.
add_mount() {
  local path=${1#./}
  case /$path/ in
    *:*) refuse "a container cannot mount '$1', as its name has a colon; rename it, or use: local" ;;
    */../*) [[ $path == /* ]] || refuse "a container sees no '$1'; give the whole path, or use: local" ;;
  esac
  if [[ $path == /* ]]; then options+=(--volume "$path:$path$2"); else
    case $CALLER in *:*) refuse "a container cannot mount '$1', as '$CALLER' has a colon; rename it, or use: local" ;; esac
    options+=(--volume "$outside/$path:$inside/$path$2")
  fi
}

# Adds what value $1 of a flag names, if it is a file or a folder.
mount_input() {
  if [[ $1 == /* && -e $1 || $1 != /* && -e $outside/$1 ]]; then add_mount "$1" :ro; fi
}

# Adds the files and folders that flags name, to be read.
mount_inputs() {
  local flag value previous=''
  for flag in "$@"; do
    value=${flag#--*=}
    case $previous/${value#./} in
      --artifacts/* | */-* | */) ;;
      */artifacts/* | */artifacts | */src/* | */tasks/*) if [[ $inside != "$APP" ]]; then mount_input "$value"; fi ;;
      *) if [[ $flag != --artifacts=* ]]; then mount_input "$value"; fi ;;
    esac
    previous=$flag
  done
}

# Adds to `options` what the container sees of the project. Only artifacts can be written.
mount_project() {
  local target=$1 path outside=$ROOT inside=$APP # where relative paths lie, on this machine and in the container
  local visible=(src tasks)
  shift
  case $target in # the tests read the project's own files as well
    test | tests/*) visible+=(tests docs *.md *.toml *.yml run_manual.sh Dockerfile.* .ci .vscode .devcontainer .dockerignore
      .gitignore .gitattributes requirements secrets.env.example) ;;
  esac
  for path in "${visible[@]}"; do
    if [[ -e $path ]]; then options+=(--volume "$ROOT/$path:$APP/$path:ro"); fi
  done
  mkdir -p artifacts # else Docker would make it, as root
  options+=(--volume "$ROOT/artifacts:$APP/artifacts")
  path=${XDG_CACHE_HOME:-${HOME-/tmp}/.cache}/thinking # compiled programs
  mkdir -p "$path" && options+=(--volume "$path:/cache" --env JAX_COMPILATION_CACHE_DIR=/cache/compiled)
  if is_elsewhere "$target"; then
    outside=$CALLER inside=$CALLER
    options+=(--workdir "$CALLER")
  fi
  path=$(artifacts_flag "$@")
  case $inside/${path#./} in
    "$inside/" | "$inside/$APP/artifacts" | "$APP/artifacts") ;;
    "$APP"/artifacts/*) [[ /$path/ != */../* ]] || refuse "a container sees no '$path'; give the whole path, or use: local" ;;
    "$inside"//*) add_mount "$path" '' && mkdir -p "$path" ;;
    *) add_mount "$path" '' && mkdir -p "$outside/$path" ;;
  esac
  mount_inputs "$@"
}

# Adds the secrets to `options`, by name or by file: a value on a command line could be read by every user.
pass_secrets() {
  local name
  if [[ -f secrets.env ]]; then options+=(--env-file secrets.env); fi
  for name in $(secret_names); do
    if [[ -n ${!name-} ]]; then options+=(--env "$name"); fi
  done
}

run_in_docker() {
  local configuration=$1 image=thinking:$1 docker_user arguments
  # A stopped program saves first: it gets ten minutes, not Docker's ten seconds.
  # A server on this machine is host.docker.internal there.
  local options=(--rm --init --stop-timeout 600 --env HOME=/tmp --add-host host.docker.internal:host-gateway)
  shift
  export MSYS_NO_PATHCONV=1 # Git for Windows would rewrite the paths inside the container
  case $1 in
    test | thinking | src/* | tasks/* | tests/*) ;;
    *) refuse "a container sees src/, tasks/ and tests/ alone, not '$1'; move it there, or use: local" ;;
  esac
  require_docker
  build_image "$configuration" "$image"
  options+=(--user "$docker_user")
  case $1 in tasks/* | thinking) options+=(--env "THINKING_LAUNCHER=$LAUNCHER $configuration") ;; esac
  if [[ $configuration == *-gpu ]]; then
    require_gpu "$configuration" "$image"
    options+=(--gpus all --shm-size 1g) # several GPUs talk through shared memory
  fi
  if [[ -t 0 && -t 1 ]]; then options+=(--interactive --tty); fi
  if [[ ${2-} == --debug ]]; then options+=(--publish "127.0.0.1:$DEBUG_PORT:$DEBUG_PORT"); fi
  mount_project "$@"
  pass_secrets
  if is_elsewhere "$1"; then python_arguments 0.0.0.0 "$APP/$1" "${@:2}"; else python_arguments 0.0.0.0 "$@"; fi
  exec docker run "${options[@]}" "$image" "${arguments[@]}"
}

# ---------------------------------------------------------------------------- main

main() {
  case ${1-} in
    -h | --help) echo "usage: $USAGE" && exit 0 ;;
    '') refuse "say what to run: $USAGE" ;;
  esac
  [[ $1 =~ ^($CONFIGURATIONS)$ ]] ||
    refuse "there is no configuration '$1'; choose one of: ${CONFIGURATIONS//|/, } ($USAGE)"
  [[ $# -ge 2 ]] || refuse "say which file to run: $USAGE"
  local configuration=$1 target home=$ROOT
  if [[ $1 != local ]]; then home=$APP; fi
  cd "$ROOT"
  target=$(normalise "$2")
  shift 2
  case $target in thinking | test | lint | docs) ;; *) require_file "$target" ;; esac
  if [[ $target == tasks/* && -z $(artifacts_flag "$@") ]] && is_elsewhere "$target"; then
    set -- "$@" --artifacts "$home/artifacts"
  fi
  read_secrets check # before anything slow
  case $configuration in
    local) run_local "$target" "$@" ;;
    *) run_in_docker "$configuration" "$target" "$@" ;;
  esac
}

main "$@"
