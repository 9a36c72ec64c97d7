#!/usr/bin/env bash
# From a bare Ubuntu GPU machine to a first report.
#
#   git clone REPOSITORY && cd REPOSITORY
#   scripts/gpu_box.sh [SERVER.yaml [WORKLOAD.yaml]]
#
# It looks before it acts: card, driver, disk, container, and what is missing are said first. Without a
# server file it takes the preset for the GPU that it finds. Each step is skipped where it is done
# already, so the script can be started again after a reboot or a failure. It installs packages with
# apt (asks sudo) and nothing else outside the checkout; a driver only where a card is and none
# answers, and after it has asked.
#
#   AOT_BOX_DRY_RUN=1      print what would be done, do none of it
#   AOT_BOX_YES=1          install a driver without asking
#   AOT_BOX_MIN_DRIVER=575 the oldest driver that is let through (the engines' wheels are of CUDA 12.9)
#   AOT_BOX_MIN_GIB=40     free disk below which it does not begin (engines take 10 to 20)
#   AOT_BOX_REPEATS=4      how often each arm is measured (intervals are over repeats)
#   HF_TOKEN               for models whose terms have to be agreed to on the hub
#
# Exit codes: 0 done, 1 something is in the way, 3 reboot or answer, then start it again.
# Tested without a GPU: with a CPU server file on a bare machine, and with stand-ins for nvidia-smi,
# apt-get and the kernel's files. Not run on a GPU by this project.
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
# A machine that has just been started installs updates of its own: wait for that.
apt_install() {
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || fail "root or sudo is needed to install: $*"
  as_root apt-get -o DPkg::Lock::Timeout=600 update -qq
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get -o DPkg::Lock::Timeout=600 install -y -qq "$@"
}
# The file named by a person, from where the person is.
given() { case "$1" in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }
# A key of a YAML file, without quotes; the toolkit's own reader comes later.
key() { sed -n "/^$1:/{s/^$1: *[\"']\{0,1\}\([^ #\"']*\).*/\1/p;q;}" "$2"; }
# The first line that a program prints. It is read to its end: closed after a line (head -1), it would
# die of the next one, and this script with it - where there are several cards, and not every time.
first_line() {
  local all
  all=$("$@" 2>/dev/null) || return
  printf '%s\n' "${all%%$'\n'*}"
}

if command -v flock >/dev/null && [ -z "${AOT_BOX_DRY_RUN:-}" ]; then
  exec 9>.gpu_box.lock
  flock -n 9 || fail "another gpu_box.sh works in $PWD; wait for it"
fi

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

root=${AOT_BOX_ROOT:-} # the kernel's files, for tests

# The vendor's card on the PCI bus: class 03 (display, 3D). Empty where there is none.
card_on_the_bus() {
  local device class vendor
  for device in "$root"/sys/bus/pci/devices/*; do
    [ -r "$device/vendor" ] || continue
    read -r vendor <"$device/vendor"
    read -r class <"$device/class"
    if [ "$vendor" = 0x10de ] && [[ "$class" == 0x03* ]]; then
      echo "${device##*/}"
      return
    fi
  done
}
# Docker, Podman, systemd, and what the first process was told (containerd, Kubernetes, LXC).
in_a_container() {
  local mark
  for mark in .dockerenv run/.containerenv run/systemd/container; do
    [ ! -e "$root/$mark" ] || return 0
  done
  if [ -r "$root/proc/1/environ" ] && [[ "$(tr '\0' '\n' <"$root/proc/1/environ")" == *container=* ]]; then
    return 0
  fi
  [ -n "${KUBERNETES_SERVICE_HOST:-}" ]
}
# The last byte of the EFI variable is 1 where only signed modules are loaded.
secure_boot() {
  local variable bytes
  for variable in "$root"/sys/firmware/efi/efivars/SecureBoot-*; do
    [ -r "$variable" ] || continue
    bytes=$(od -An -tu1 "$variable" 2>/dev/null) || return 1
    [ "${bytes##* }" = 1 ] && return 0
  done
  return 1
}

# Nothing answers: say why, and install a driver only where that is what is missing.
without_an_answer() {
  local card words
  card=$(card_on_the_bus)
  if [ -z "$card" ]; then
    fail "no NVIDIA card is on this machine's PCI bus, so no driver was installed; for a machine \
without one: scripts/gpu_box.sh configs/servers/demo.yaml"
  fi
  say "an NVIDIA card is there (PCI $card)"
  if in_a_container; then
    fail "this is a container, and no driver can be installed in it: start it with the host's \
(docker run --gpus all, and the NVIDIA Container Toolkit on the host)"
  fi
  if command -v nvidia-smi >/dev/null; then
    words=$(nvidia-smi 2>&1) || true
    say "nvidia-smi: ${words%%$'\n'*}"
    case "$words" in
      *"version mismatch"*)
        say "the driver was updated under the running kernel: reboot, and start this script again"
        exit 3
        ;;
    esac
    if secure_boot; then
      fail "a driver is installed and does not answer, and Secure Boot is on: its module must be \
signed (mokutil --import, then reboot), or Secure Boot turned off in the firmware"
    fi
    fail "a driver is installed and does not answer; another one on top would not mend it. Reboot \
first; then see dmesg and 'dkms status' (kernel headers missing after an update?)"
  fi
  if [ -r "$root/proc/driver/nvidia/version" ]; then
    fail "a driver is loaded, and nvidia-smi is not installed: install the nvidia-utils-... package of \
the driver's own version ($(sed -n 's/.*Module *\([0-9.]*\).*/\1/p;q' "$root/proc/driver/nvidia/version"))"
  fi
  if secure_boot; then
    say "Secure Boot is on: Ubuntu's own driver is signed; others would not be loaded"
  fi
  if [ -z "${AOT_BOX_YES:-}" ] && [ -z "$dry" ]; then
    [ -t 0 ] || {
      say "no driver is installed. AOT_BOX_YES=1 scripts/gpu_box.sh installs Ubuntu's own"
      exit 3
    }
    read -r -p "   no driver is installed: install Ubuntu's own now? [y/N] " words
    [[ "$words" == [yY]* ]] || exit 3
  fi
  say "no driver is installed; installing Ubuntu's own"
  apt_install ubuntu-drivers-common
  as_root ubuntu-drivers install
  say "reboot now, and start this script again"
  exit 3
}

# The driver is new enough; where cards talk through NVSwitch, its fabric manager runs.
check_driver() {
  local driver cards fabric
  driver=$(first_line nvidia-smi --query-gpu=driver_version --format=csv,noheader) || driver=
  if [[ ! "${driver%%.*}" =~ ^[0-9]+$ ]]; then
    fail "nvidia-smi names no version of the driver (${driver:-nothing}): see nvidia-smi itself, and dmesg"
  fi
  if [ "${driver%%.*}" -lt "$min_driver" ]; then
    fail "driver $driver is older than $min_driver, for which the engines' wheels are made; update \
it (ubuntu-drivers install, reboot), or try all the same: AOT_BOX_MIN_DRIVER=${driver%%.*}"
  fi
  cards=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null) || cards=
  fabric=$(nvidia-smi -q 2>/dev/null |
    sed -n '/Fabric/,/Status/s/.*\(State\|Status\) *: *\(In Progress\|Not Started\|Fail[a-z]*\).*/\2/p') || fabric=
  if [ "$(wc -l <<<"$cards")" -gt 1 ] && [ -n "$fabric" ]; then
    fail "the cards are joined by NVSwitch and its fabric manager is not ready (state: ${fabric%%$'\n'*}): \
sudo systemctl enable --now nvidia-fabricmanager (of the driver's own version), and start again"
  fi
}

step "GPU"
min_driver=${AOT_BOX_MIN_DRIVER:-575}
min_driver=${min_driver%%.*}
[[ "$min_driver" =~ ^[0-9]+$ ]] || fail "AOT_BOX_MIN_DRIVER=$AOT_BOX_MIN_DRIVER: a number, e.g. 575"
if [ -n "$server" ] && [[ "$(key environment "$server")" == *-cpu ]]; then
  say "$server is for a CPU"
elif ! command -v nvidia-smi >/dev/null || ! nvidia-smi >/dev/null 2>&1; then
  without_an_answer
else
  gpu=$(first_line nvidia-smi --query-gpu=name --format=csv,noheader) || gpu=
  if [ -z "$gpu" ] || [[ "$gpu" == "No devices"* ]]; then
    fail "nvidia-smi answers and finds no card (${gpu:-nothing}): is it passed through to this machine, \
and its driver bound to it? See dmesg"
  fi
  say "$gpu"
  check_driver
  if [ -z "$server" ]; then
    kind=$gpu
    [[ "$gpu" =~ -[0-9]+[ABCQ]$ ]] && kind="a part of a card" # vGPU: NVIDIA H200-35C
    case "$kind" in
      # Other memory than the cards that they are called after, and an ARM processor.
      *GH200* | *GB200* | *GB300* | *GB10*) preset=gpu ;;
      *H200* | *B200*) preset=qwen3-32b-h200 ;;
      *H100*80GB* | *"H100 NVL"*) preset=gpt-oss-20b-h100 ;;
      *A100*80GB*) preset=qwen3-8b-a100-80 ;;
      *L4) preset=qwen3-8b-l4 ;;
      *) preset=gpu ;;
    esac
    server=$PWD/configs/servers/$preset.yaml
  fi
fi
say "server file: $server"

step "disk"
min_gib=${AOT_BOX_MIN_GIB:-40}
free_gib=$(df -BG --output=avail . 2>/dev/null | tail -1 | tr -dc '0-9') || free_gib=
if [ -n "$free_gib" ] && [ "$free_gib" -lt "$min_gib" ] && [ ! -e .engines ]; then
  fail "$free_gib GiB are free in $PWD, and engine and weights want $min_gib (AOT_BOX_MIN_GIB); put \
the checkout, and HF_HOME, on a larger disk"
fi
say "${free_gib:-unknown} GiB free in $PWD"

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
