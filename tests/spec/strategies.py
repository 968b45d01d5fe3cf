"""Functions of all kinds."""

from __future__ import annotations

from hypothesis import strategies as st

from fastgshare.domain.functions import Batching, Function, Replicas, Slo
from fastgshare.domain.shares import Share

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
names = st.from_regex(r"[a-zA-Z0-9]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9])?", fullmatch=True)
own_keys = texts.filter(lambda key: not key.startswith(("fastgshare/", "com.openfaas.scale.")))
models = st.sampled_from(["/models/a b.onnx", "package:model.onnx", "a.b:folder/model.onnx"])
handlers = st.sampled_from(["/code/handler.py:Handler", "package.module:make.it"])


def above(low: float, high: float) -> st.SearchStrategy[float]:
    """Floats above `low` and up to `high`."""
    return st.floats(low, high, exclude_min=True)


@st.composite
def shares(draw: st.DrawFn) -> Share:
    request = draw(above(0, 1))
    return Share(
        draw(above(0, 100)), request, draw(st.floats(request, 1)), draw(st.just(0) | st.integers(2**26, 2**50))
    )


@st.composite
def replicas(draw: st.DrawFn) -> Replicas:
    minimum = draw(st.integers(0, 1000))
    return Replicas(minimum, draw(st.integers(max(1, minimum), 1000)))


slos = st.builds(Slo, above(0, 1e6).filter(lambda s: s > 1e-30), st.floats(1e-9, 1, exclude_max=True))
mappings = st.dictionaries(own_keys, texts, max_size=3)


@st.composite
def functions(draw: st.DrawFn) -> Function:
    model = draw(st.none() | models)
    return Function(
        name=draw(names),
        share=draw(shares()),
        model=model,
        handler=draw(handlers if model is None else st.none() | handlers),
        namespace=draw(names),
        slo=draw(st.none() | slos),
        batch=Batching(draw(st.integers(1, 1024)), draw(st.floats(0, 10))),
        replicas=draw(replicas()),
        queue_size=draw(st.integers(1, 1_000_000)),
        timeout_s=draw(st.floats(1e-9, 3600)),
        burst_s=draw(st.floats(0, 60)),
        trust_group=draw(names),
        env=draw(mappings),
        labels=draw(mappings),
        annotations=draw(mappings),
        secrets=tuple(draw(st.lists(texts, max_size=2))),
        constraints=tuple(draw(st.lists(texts, max_size=2))),
    )
