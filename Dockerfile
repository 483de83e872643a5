# A worker, or any other driftline command: docker build -t driftline . && docker run driftline --help
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /srv/driftline
# The dependencies first, in the versions of the constraints: the layer stays as long as they do.
COPY pyproject.toml constraints.txt ./
RUN mkdir app && touch app/__init__.py && pip install -c constraints.txt . && pip uninstall -y driftline && rm -r app
COPY app ./app
RUN pip install --no-deps . && rm -r build *.egg-info app \
    && useradd --create-home --uid 10001 driftline
USER driftline
WORKDIR /home/driftline

EXPOSE 6066
STOPSIGNAL SIGTERM
ENTRYPOINT ["driftline"]
CMD ["--help"]
