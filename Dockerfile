# Two images: `operator` (no Ray in it) and `runtime` (what Ray pods run).
#   docker build --target operator -t rayservice-operator/operator:dev .
# or, with docker or buildah, whichever is there: python -m e2e.images build operator runtime
#
# BASE is any Debian with Python 3.11 or newer and its venv module.
ARG BASE=python:3.11-slim-bookworm

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


FROM ${BASE} AS runtime-packages
# Ray pods' probes use bash and wget.
RUN command -v wget > /dev/null || { apt-get update -qq && apt-get install -qq -y --no-install-recommends wget \
 && rm -rf /var/lib/apt/lists/*; }
RUN useradd --uid 1000 --create-home --shell /bin/bash ray
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
