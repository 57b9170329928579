# The sidecar in a slim image: nothing to build with, no root, nothing it must write to but /var/lib/syncwatch.
FROM python:3.13-slim AS build
ARG REVISION=""
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY syncwatch syncwatch
RUN printf '%s' "${REVISION}" > syncwatch/REVISION \
 && python -m venv /opt/syncwatch \
 && /opt/syncwatch/bin/pip install --no-cache-dir . \
 && /opt/syncwatch/bin/pip uninstall --yes pip

FROM python:3.13-slim
ARG REVISION=""
LABEL org.opencontainers.image.title="syncwatch" \
      org.opencontainers.image.description="A sidecar that tells the truth about real-time sync connections" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/syncwatch /opt/syncwatch
RUN mkdir -m 0700 /var/lib/syncwatch && chown 65532:65532 /var/lib/syncwatch
ENV PATH=/opt/syncwatch/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SYNCWATCH_CONFIG=/etc/syncwatch/syncwatch.yaml
USER 65532:65532
EXPOSE 10119
ENTRYPOINT ["syncwatch"]
CMD ["run"]
