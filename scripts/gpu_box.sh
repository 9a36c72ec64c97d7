#!/usr/bin/env bash
# From a bare Ubuntu GPU machine to a first report.
#
#   git clone REPOSITORY && cd REPOSITORY
#   scripts/gpu_box.sh [SERVER.yaml [WORKLOAD.yaml]]
#
# Without a server file it takes the preset for the GPU that it finds. Each step is skipped where it
# is done already, so the script can be started again after a reboot or a failure. It installs
# packages with apt (asks sudo), and nothing else outside the checkout.
#
#   AOT_BOX_DRY_RUN=1   print what would be done, do none of it
#   AOT_BOX_REPEATS=4   how often each arm is measured (intervals are over repeats)
#   HF_TOKEN            for models whose terms have to be agreed to on the hub
#
# Tested without a GPU: with a CPU server file on a bare machine, and with stand-ins for nvidia-smi
# and apt-get. Not run on a GPU by this project.
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."

case "${1:-}" in -h | --help)
  sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "$0"
  exit 0
  ;;
esac

step() { printf '\n== %s\n' "$*" >&2; }
say() { printf '   %s\n' "$*" >&2; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
act() {
  printf '   $ %s\n' "$*" >&2
  [ -n "$dry" ] || "$@"
}
as_root() {
  if [ "$(id -u)" = 0 ]; then act "$@"; else act sudo "$@"; fi
}
apt_install() {
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
}
# The file named by a person, from where the person is.
given() { case "$1" in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
# A key of a YAML file, without quotes; the toolkit's own reader comes later.
key() { sed -n "s/^$1: *[\"']\{0,1\}\([^ #\"']*\).*/\1/p" "$2" | head -1; }

server=${1:+$(given "$1")}
workload=${2:+$(given "$2")}
workload=${workload:-$PWD/configs/workloads/support-bot.yaml}
repeats=${AOT_BOX_REPEATS:-4}
dry=${AOT_BOX_DRY_RUN:-}

for file in ${server:+"$server"} "$workload"; do
  [ -f "$file" ] || fail "$file: no such file"
done
if [ -n "$server" ] && [ "$(key runtime "$server")" = remote ]; then
  fail "$server runs already (runtime: remote): measure it with aot run, from anywhere"
fi
command -v apt-get >/dev/null || fail "this script is for Ubuntu and Debian (no apt-get here); \
do its steps by hand: README, 'On a GPU box'"

step "GPU"
if [ -n "$server" ] && [[ "$(key environment "$server")" == *-cpu ]]; then
  say "$server is for a CPU"
elif ! command -v nvidia-smi >/dev/null || ! nvidia-smi >/dev/null 2>&1; then
  say "no driver that answers; installing Ubuntu's own"
  apt_install ubuntu-drivers-common
  as_root ubuntu-drivers install
  say "reboot now, and start this script again"
  exit 3
else
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)
  say "$gpu"
  if [ -z "$server" ]; then
    case "$gpu" in
      *H200* | *B200*) preset=qwen3-32b-h200 ;;
      *H100*) preset=gpt-oss-20b-h100 ;;
      *A100*80GB*) preset=qwen3-8b-a100-80 ;;
      *L4) preset=qwen3-8b-l4 ;;
      *) preset=gpu ;;
    esac
    server=$PWD/configs/servers/$preset.yaml
  fi
fi
say "server file: $server"

step "system packages"
fit_python='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'
python=
for candidate in python3 python3.13 python3.12 python3.11; do
  if "$candidate" -c "$fit_python" 2>/dev/null; then
    python=$candidate
    break
  fi
done
missing=()
for tool in make git gcc; do command -v "$tool" >/dev/null || missing+=("$tool"); done
if [ -z "$python" ]; then # Ubuntu 24.04 has 3.12; 22.04 has 3.10, and 3.11 beside it
  python=python3.11
  missing+=(python3.11)
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=("$python-venv")
# Triton compiles against Python's own headers.
"$python" -c 'import sysconfig, os.path; open(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' \
  2>/dev/null || missing+=("$python-dev")
if [ ${#missing[@]} -gt 0 ]; then
  apt_install "${missing[@]/#gcc/build-essential}"
else
  say "all there"
fi

step "the toolkit"
act make toolkit PYTHON="$python"

recipe=$(key environment "$server")
recipe=${recipe:-$(key engine "$server")}
recipe=${recipe:-vllm}
model=$(key model "$server")

install() {
  step "the engine"
  if [ "$(key runtime "$server")" = docker ] || [ "$recipe" = current ]; then
    say "$server brings its own"
  else
    act .venv/bin/aot engine install "$recipe"
  fi
  if [ -f "configs/models/$model.yaml" ]; then act .venv/bin/aot model fetch "$model"; fi
}

fits() {
  step "does it fit"
  [ -z "$dry" ] || return 0
  local words code=0
  words=$(.venv/bin/aot doctor --server "$server") || code=$?
  printf '%s\n' "$words" >&2
  case $code in
    0) ;;
    1) fail "$server: see above what would mend it" ;;
    *) say "that could not be computed beforehand; the engine will tell" ;;
  esac
  if [[ "$words" == *"is gated"* ]] && [ -z "${HF_TOKEN:-}" ] &&
    [ ! -s "${HF_HOME:-$HOME/.cache/huggingface}/token" ]; then
    fail "the model of $server is gated: agree to its terms on its page of the hub, make a token \
there, export HF_TOKEN=..., and start this script again"
  fi
}

# A model that a recipe makes is weighed when it is there; others before much is downloaded.
if [ -f "configs/models/$model.yaml" ]; then
  install
  fits
else
  fits
  install
fi

step "the first report"
experiment=runs/gpu-box.yaml
if [ -z "$dry" ]; then
  mkdir -p runs
  cat >"$experiment" <<YAML
# Written by scripts/gpu_box.sh.
name: gpu-box
server: $server
workload: $workload
arms: [jit, auto, aot]
repeats: $repeats
YAML
fi
act .venv/bin/aot run "$experiment"
