"""Steps through SGLang's own RadixCache, without an engine: runs in the engine's environment.

usage: python sglang_radix_cache.py serving/in_engine/sglang_server.py
stdin: a case a line (`page`, `steps`); stdout: what each step gave. A step looks for tokens
("match": how many were found), puts them there ("insert": how many there were), gives up tokens
("evict": how many went), or holds and lets go what a "match" ended at.
"""

import json
import logging
import runpy
import sys
from array import array

logging.disable(logging.WARNING)
runpy.run_path(sys.argv[1])  # what the wheels lack without a GPU

import torch  # noqa: E402
from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams, MatchPrefixParams  # noqa: E402
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey  # noqa: E402


class Allocator:
    device = torch.device("cpu")

    def free_segment(self, *_, **__):
        pass


def main():
    for line in sys.stdin:
        case = json.loads(line)
        page = case["page"]
        cache = RadixCache.create_simulated(mock_allocator=Allocator(), page_size=page)
        ends, given = {}, []
        for step in case["steps"]:
            kind, value = step["kind"], step["value"]
            if kind == "match":
                found = cache.match_prefix(MatchPrefixParams(key=RadixKey(key(value), None)))
                ends[step["id"]] = found.last_device_node
                given.append(found.device_prefix_len)
            elif kind == "insert":
                done = cache.insert(InsertParams(key=RadixKey(key(value), None)))
                given.append(done.prefix_len)
            elif kind == "evict":
                done = cache.evict(EvictParams(num_tokens=value))
                given.append(done.num_tokens_evicted)
            elif kind == "hold":
                cache.inc_lock_ref(ends[value])
                given.append(0)
            else:
                cache.dec_lock_ref(ends[value])
                given.append(0)
        sys.stdout.write(json.dumps(given) + "\n")


def key(tokens):
    return array("q", tokens)


main()
