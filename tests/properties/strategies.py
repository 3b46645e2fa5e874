"""What hypothesis draws for the tests of the engine: shapes that broadcast, axes, indices, and memory layouts."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minilm.testing.samples import LAYOUTS, with_layout

layouts = st.sampled_from(LAYOUTS)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
nonempty_shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=4)


@st.composite
def arrays(draw, shape=shapes, low=-3.0, high=3.0, dtype="float64", unique=False):
    """Floats from low to high, of a drawn or given shape, in any memory layout."""
    values = draw(
        hnp.arrays(
            dtype,
            shape,
            elements=st.floats(low, high, width=16, allow_subnormal=False),
            unique=unique,
        )
    )
    return with_layout(values, draw(layouts))


@st.composite
def broadcastable(draw, n=2, low=-3.0, high=3.0, dtype="float64", max_side=4):
    """n arrays whose shapes broadcast against each other, in any memory layouts."""
    found = draw(hnp.mutually_broadcastable_shapes(num_shapes=n, max_dims=3, min_side=0, max_side=max_side))
    return [draw(arrays(shape, low, high, dtype)) for shape in found.input_shapes]


@st.composite
def axes_of(draw, ndim):
    """None, an int (negative ones too) or a tuple of ints: the forms of `axis` for an array of so many axes."""
    if ndim == 0:
        return draw(st.sampled_from([None, ()]))
    one = st.integers(-ndim, ndim - 1)
    some = hnp.valid_tuple_axes(ndim, min_size=1)
    return draw(st.one_of(st.none(), one, some))


def cotangent_like(array, seed=0):
    """Random numbers of an array's shape and dtype."""
    return np.random.default_rng(seed).normal(size=np.shape(array)).astype(np.asarray(array).dtype)
