"""Graphs count with what they allocate, and with what they leave behind."""

from __future__ import annotations

from tests.hook.calls import MIB, OUT_OF_MEMORY, run
from tests.hook.children import Holder

GRAPHS = """
def allocating(size, count=1):
    graph, node = c_void_p(), c_void_p()
    ok("cuGraphCreate", byref(graph), 0)
    for _ in range(count):
        wanted = Node(Pool(1, 0, Location(1, 0), None, 0), None, 0, size, 0)
        ok("cuGraphAddMemAllocNode", byref(node), graph, None, c_size_t(0), byref(wanted))
    return graph, wanted
"""


def test_graphs_count_what_they_allocate_from_their_instantiation_on(holder: Holder) -> None:
    told = run(
        holder,
        GRAPHS
        + """
graph, _ = allocating(4 * MIB, 2)
first, second = c_void_p(), c_void_p()
before = used()
ok("cuGraphInstantiateWithFlags", byref(first), graph, c_uint64(0))
instantiated = used()
large, _ = allocating(CAP)
over = cu.cuGraphInstantiateWithFlags(byref(second), large, c_uint64(0))
ok("cuGraphExecDestroy", first)
tell(before=before, instantiated=instantiated, over=over, left=used())
""",
    )

    assert told == {"before": 0, "instantiated": 8 * MIB, "over": OUT_OF_MEMORY, "left": 0}


def test_what_a_graph_left_allocated_counts_after_the_graph_is_gone(holder: Holder) -> None:
    told = run(
        holder,
        GRAPHS
        + """
graph, wanted = allocating(4 * MIB)
instance = c_void_p()
ok("cuGraphInstantiateWithFlags", byref(instance), graph, c_uint64(0))
ok("cuGraphLaunch", instance, stream)
ok("cuStreamSynchronize", stream)
ok("cuGraphExecDestroy", instance)
destroyed = used()
give(c_uint64(wanted.out))
ok("cuGraphDestroy", graph)
ok("cuDeviceGraphMemTrim", 0)
tell(destroyed=destroyed, left=used())
""",
    )

    assert told == {"destroyed": 4 * MIB, "left": 0}


def test_a_captured_allocation_counts_with_its_graph(holder: Holder) -> None:
    told = run(
        holder,
        """
ok("cuStreamBeginCapture_v2", stream, 2)
block = alloc(4 * MIB, "cuMemAllocAsync", stream)
give(block, "cuMemFreeAsync", stream)
graph, instance = c_void_p(), c_void_p()
ok("cuStreamEndCapture", stream, byref(graph))
captured = used()
ok("cuGraphInstantiateWithFlags", byref(instance), graph, c_uint64(0))
instantiated = used()
ok("cuGraphExecDestroy", instance)
tell(captured=captured, instantiated=instantiated, left=used())
""",
    )

    assert told == {"captured": 0, "instantiated": 4 * MIB, "left": 0}
