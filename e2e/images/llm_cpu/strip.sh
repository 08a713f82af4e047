#!/bin/sh
# Take out of site-packages what nothing imports here, and compile the rest: strip.sh SITE_PACKAGES.
set -eu
cd "$1"
# Headers, static libraries, other packages' tests, expert parallelism over RDMA.
rm -rf torch/include torch/bin/protoc* pyarrow/include pyarrow/tests nixl_ep_cu13 nixl_ep pip \
	pandas/tests numba/tests sympy/*/tests networkx/*/tests numpy/*/tests moto/*/resources
find . -name '*.a' -delete
# Models by the hundred, of which one is used, stay as sources; they are compiled when they are imported, in memory.
python3 -m compileall -q -j 0 -x '/(transformers/models/[b-km-z]|vllm/model_executor/models/[b-km-z]|anthropic/types|openai/types|moto/[a-rt-z])' . ||
	echo "some sources are of another Python; they stay as they are"
