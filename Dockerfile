# Images: `operator` (no Ray in it), `runtime` (what Ray pods run), `llm` (the same with vLLM, for GPUs) and `llm-cpu`, which
# tests use: vLLM on machines without a GPU.
#   docker build --target operator -t rayservice-operator/operator:dev .
# or, with docker or buildah, whichever is there: python -m e2e.images build operator runtime
#
# BASE is any Debian with Python 3.11 or newer and its venv module.
ARG BASE=python:3.11-slim-bookworm
# What the target `llm` is built on, for what NVIDIA's container toolkit and compilers want, if anything: PyTorch's and vLLM's
# wheels bring CUDA's libraries along, so a plain Debian with Python does for most models. It stands here because an ARG
# further down belongs to one stage, and a FROM doesn't see it.
ARG CUDA_BASE=${BASE}

# What the images install, cut out of pyproject.toml: other edits of that file don't reach the stages below.
FROM ${BASE} AS requirements
COPY pyproject.toml constraints.txt scripts/requirements.py /src/
RUN python3 /src/requirements.py /src/pyproject.toml /requirements && cp /src/constraints.txt /requirements/


FROM ${BASE} AS operator-packages
COPY --from=requirements /requirements/operator.txt /requirements/constraints.txt /requirements/
# pip lives beside the environment, not in it: the image has none.
RUN python3 -m venv /pip \
 && python3 -m venv --without-pip /opt/operator \
 && /pip/bin/pip --python /opt/operator/bin/python install --no-cache-dir --no-compile --quiet -r /requirements/operator.txt \
      -c /requirements/constraints.txt \
 && /opt/operator/bin/python -m compileall -q /opt/operator/lib \
 && echo /opt/operator/src > "$(/opt/operator/bin/python -c 'import site; print(site.getsitepackages()[0])')/src.pth" \
 && printf '#!/opt/operator/bin/python -P\nimport sys\nfrom rayservice_operator.cli.main import main\nsys.exit(main())\n' \
      > /opt/operator/bin/rayservice-operator \
 && chmod 0755 /opt/operator/bin/rayservice-operator


FROM operator-packages AS operator-source
COPY operator/rayservice_operator /opt/operator/src/rayservice_operator
# Compiled here, since nothing can be written at run time. Hash-checked, so that a copy's file times don't matter.
RUN /opt/operator/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/operator/src


FROM ${BASE} AS operator
# USER, because kopf asks for the user's name and a bare number has none in /etc/passwd.
ENV PATH=/opt/operator/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp USER=rayservice-operator
COPY --from=operator-packages /opt/operator /opt/operator
COPY --from=operator-source /opt/operator/src /opt/operator/src
# Works with a read-only root file system; a number, so that runAsNonRoot can be checked.
USER 65532:65532
ENTRYPOINT ["/opt/operator/bin/rayservice-operator"]


FROM ${BASE} AS runtime-base
# Ray pods' probes use bash and wget.
RUN command -v wget > /dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/*; }
RUN useradd --uid 1000 --create-home --shell /bin/bash ray


FROM runtime-base AS runtime-packages
COPY --from=requirements /requirements/runtime.txt /requirements/constraints.txt /requirements/
RUN python3 -m venv /opt/ray \
 && /opt/ray/bin/pip install --no-cache-dir --no-compile --quiet -r /requirements/runtime.txt \
      -c /requirements/constraints.txt \
 && /opt/ray/bin/python -m compileall -q -j 0 /opt/ray/lib \
 && echo /opt/serve > "$(/opt/ray/bin/python -c 'import site; print(site.getsitepackages()[0])')/serve.pth"


FROM runtime-packages AS runtime
ENV PATH=/opt/ray/bin:$PATH HOME=/home/ray PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
COPY serve_runtime /opt/serve/serve_runtime
RUN /opt/ray/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/serve
USER 1000:1000
WORKDIR /home/ray


#   docker build --target llm -t <registry>/llm:<tag> --build-arg CUDA_BASE=… .
FROM ${CUDA_BASE} AS llm-packages
# A compiler, because Triton and vLLM compile kernels for the GPU they find.
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends wget gcc g++ libc6-dev libnuma1 python3-dev \
 && rm -rf /var/lib/apt/lists/*
RUN id -u ray > /dev/null 2>&1 || useradd --uid 1000 --create-home --shell /bin/bash ray
COPY --from=requirements /requirements/runtime.txt /requirements/llm.txt /requirements/
# Not with constraints.txt: vLLM wants other versions of some packages. vLLM pins what matters itself.
RUN python3 -m venv /opt/ray \
 && /opt/ray/bin/pip install --no-cache-dir --quiet -r /requirements/runtime.txt -r /requirements/llm.txt \
 && echo /opt/serve > "$(/opt/ray/bin/python -c 'import site; print(site.getsitepackages()[0])')/serve.pth"


FROM llm-packages AS llm
ENV PATH=/opt/ray/bin:$PATH HOME=/home/ray PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1
COPY serve_runtime /opt/serve/serve_runtime
RUN /opt/ray/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/serve
USER 1000:1000
WORKDIR /home/ray


FROM runtime-base AS llm-cpu-packages
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*
COPY constraints-llm-cpu.txt e2e/images/llm_cpu/strip.sh /build/
# uv, because it installs these 200 packages in seconds; it reads pip's settings no more than pip reads its.
RUN --mount=type=cache,target=/cache \
    python3 -m venv /pip && /pip/bin/pip install --no-cache-dir --quiet uv \
 && python3 -m venv --without-pip /opt/ray \
 && index=$(/pip/bin/pip config get global.index-url 2> /dev/null || true) \
 && SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt UV_HTTP_TIMEOUT=180 UV_CACHE_DIR=/cache/uv UV_LINK_MODE=copy \
    /pip/bin/uv pip install --quiet --no-deps ${index:+--default-index "$index"} --python /opt/ray/bin/python \
      -r /build/constraints-llm-cpu.txt \
 && rm -rf /pip \
 && sh /build/strip.sh "$(/opt/ray/bin/python -c 'import site; print(site.getsitepackages()[0])')" \
 && echo /opt/serve > "$(/opt/ray/bin/python -c 'import site; print(site.getsitepackages()[0])')/serve.pth"


FROM llm-cpu-packages AS cuda-stand-ins
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends gcc && rm -rf /var/lib/apt/lists/*
COPY e2e/images/llm_cpu/cuda_stand_ins.py /build/
RUN mkdir /stand-ins \
 && python3 /build/cuda_stand_ins.py "$(/opt/ray/bin/python -c 'import site; print(site.getsitepackages()[0])')" /stand-ins


FROM llm-cpu-packages AS llm-cpu
ENV PATH=/opt/ray/bin:$PATH HOME=/home/ray PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0 VLLM_NO_USAGE_STATS=1 \
    HF_HUB_OFFLINE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1 LD_LIBRARY_PATH=/opt/stand-ins
COPY --from=cuda-stand-ins /stand-ins /opt/stand-ins
COPY serve_runtime /opt/serve/serve_runtime
RUN /opt/ray/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/serve
USER 1000:1000
WORKDIR /home/ray
