# A worker, or any other driftline command: docker build -t driftline . && docker run driftline --help

# Both stages name a patch version, so that a build next month is the same as today's. To raise it: another patch of 3.11
# reads the state that is there. Another minor does not: save the state first (`driftline state save`, see
# docs/operations.md), restore it with the new image, and raise constraints.txt with it.

# Built where there is a C compiler: the .pyx files are compiled.
FROM python:3.11.14 AS build

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/driftline/bin:$PATH
RUN python -m venv /opt/driftline

WORKDIR /src
# The dependencies first, in the versions of the constraints: the layer stays as long as they do.
COPY pyproject.toml constraints.txt README.md ./
RUN mkdir -p app/driftline/codec app/driftline/core/guard app/driftline/core/model/fast \
    && touch app/driftline/__init__.py app/driftline/codec/_declared.pyx app/driftline/codec/_usual.pyx \
      app/driftline/core/guard/_familiar.pyx app/driftline/core/guard/_passing.pyx \
      app/driftline/core/model/fast/_leaf.pyx app/driftline/core/model/fast/_weighted.pyx \
    && pip install -c constraints.txt . && pip uninstall -y driftline && rm -r app build
COPY app ./app
COPY schemas ./schemas
COPY docs/runbook.md ./docs/
RUN pip install --no-deps .

FROM python:3.11.14-slim

ENV PYTHONUNBUFFERED=1 PATH=/opt/driftline/bin:$PATH
COPY --from=build /opt/driftline /opt/driftline
RUN useradd --create-home --uid 10001 driftline
USER driftline
WORKDIR /home/driftline

EXPOSE 6066
STOPSIGNAL SIGTERM
ENTRYPOINT ["driftline"]
CMD ["--help"]
