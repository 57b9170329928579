# The sidecar in a slim image: no pip and no compiler, no root, nothing it must write to but /var/lib/syncwatch.
# BASE is any image with Python 3.11 or newer and its venv module.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG REVISION=""
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements-dev.lock ./
COPY syncwatch syncwatch
COPY dashboards/json dashboards/json
COPY dashboards/rules dashboards/rules
COPY deploy deploy
RUN printf '%s' "${REVISION}" > syncwatch/REVISION \
 && python3 -m venv /opt/syncwatch \
 && /opt/syncwatch/bin/python -m pip install --no-cache-dir --constraint requirements-dev.lock . \
 && /opt/syncwatch/bin/python -m pip uninstall --yes pip \
 && rm -rf /opt/syncwatch/lib/python3*/site-packages/setuptools* /opt/syncwatch/lib/python3*/site-packages/pkg_resources

FROM ${BASE}
ARG REVISION=""
ARG VERSION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="syncwatch" \
      org.opencontainers.image.description="A sidecar that tells the truth about real-time sync connections" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.revision="${REVISION}"
# Python's own installers go; the state directory is the one place that is written to.
RUN rm -rf /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
           /usr/lib/python3*/ensurepip /usr/share/python-wheels \
 && mkdir -m 0700 /var/lib/syncwatch \
 && chown 65532:65532 /var/lib/syncwatch
COPY --from=build /opt/syncwatch /opt/syncwatch
ENV PATH=/opt/syncwatch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SYNCWATCH_CONFIG=/etc/syncwatch/syncwatch.yaml
USER 65532:65532
EXPOSE 10119
ENTRYPOINT ["syncwatch"]
CMD ["run"]
