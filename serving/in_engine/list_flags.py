"""Prints every flag of an engine's server, one a line. Runs in the engine's environment.

usage: python list_flags.py vllm|sglang > configs/engines/ENGINE.flags
       python list_flags.py vllm|sglang parse < ARGUMENTS.jsonl

With `parse` the engine's own parser takes each line, a JSON list of arguments; it ends with exit
code 2 at the first that it refuses, and says why.
"""

import argparse
import json
import runpy
import sys
from pathlib import Path


def vllm_parser():
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return make_arg_parser(FlexibleArgumentParser())


def sglang_parser():
    runpy.run_path(str(Path(__file__).with_name("sglang_server.py")))  # what CPU wheels lack
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser()
    ServerArgs.add_cli_args(parser)
    return parser


parser = {"vllm": vllm_parser, "sglang": sglang_parser}[sys.argv[1]]()
if sys.argv[2:] == ["parse"]:
    for line in sys.stdin:
        parser.parse_args(json.loads(line))
        print("parsed")
    sys.exit()
print("\n".join(sorted({flag for action in parser._actions for flag in action.option_strings})))
