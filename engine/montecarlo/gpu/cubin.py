"""Cubin: kernels.cu as machine code of one kind of graphics processor, compiled once and kept in the user's cache folder.

A kept file is named after source, options and kind, and loads without a compiler. A newer compiler does not make it stale:
drivers run the machine code of older ones.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from metrics.errors import DeskvigilError

SOURCE: Final = Path(__file__).with_name("kernels.cu")
# Without contraction a value has the same bits as on the processor; what is to round once is written so.
OPTIONS: Final = ("--fmad=false", "--std=c++17")
COMPILE_S: Final = 120.0

Compiler = Callable[[str, str], bytes]  # source, kind ("90") -> machine code


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deskvigil" / "gpu"


def cubin_for(arch: str, compilers: list[Compiler], folder: Path | None = None) -> Path:
    """The kept machine code for one kind ("90"), made by the first compiler that can where there is none.

    DeskvigilError, with what each compiler said, where none can.
    """
    source = SOURCE.read_text()
    digest = hashlib.sha256("\0".join((source, *OPTIONS)).encode()).hexdigest()[:16]
    kept = (folder or cache_folder()) / f"kernels-{digest}-sm_{arch}.cubin"
    if kept.is_file():
        return kept
    reasons = []
    for compiler in compilers:
        try:
            code = compiler(source, arch)
        except DeskvigilError as error:
            reasons.append(str(error))
            continue
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=kept.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(code)
        os.replace(name, kept)  # whole or not at all, whoever else compiles
        return kept
    raise DeskvigilError(f"the kernels could not be compiled for sm_{arch}: {'; '.join(reasons)}")


def nvrtc(cupy: Any) -> Compiler:
    """NVIDIA's compiler as a library, through CuPy."""

    def compiled(source: str, arch: str) -> bytes:
        library = cupy.cuda.nvrtc
        program = None
        try:
            program = library.createProgram(source, SOURCE.name, (), ())
            library.compileProgram(program, (*OPTIONS, f"--gpu-architecture=sm_{arch}"))
            code: bytes = library.getCUBIN(program)
        except Exception as error:  # not installed: an error of the library's loader; else one of the compiler
            said = library.getProgramLog(program).strip() if program is not None else ""
            raise DeskvigilError(f"NVRTC: {type(error).__name__}: {said or error}"[:500]) from error
        finally:
            if program is not None:
                library.destroyProgram(program)
        return code

    return compiled


def nvcc(source: str, arch: str) -> bytes:
    """NVIDIA's compiler as a program, where it is on the path."""
    program = shutil.which("nvcc")
    if program is None:
        raise DeskvigilError("nvcc is not on the path")
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, SOURCE.name), Path(folder, "kernels.cubin")
        given.write_text(source)
        command = [program, *OPTIONS, f"-arch=sm_{arch}", "-cubin", str(given), "-o", str(made)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_S)  # noqa: S603
        except subprocess.CalledProcessError as error:
            raise DeskvigilError(f"nvcc: {error.stderr.strip()}"[:500]) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DeskvigilError(f"nvcc: {error}"[:500]) from error
        return made.read_bytes()
