//! What Grafana is given before anybody looks: where data comes from, and where dashboards are.

/// The data sources. An exemplar leads to its trace, and a span to what its node logged meanwhile.
pub(super) const SOURCES: &str = "\
apiVersion: 1
datasources:
  - name: Prometheus
    uid: prometheus
    type: prometheus
    access: proxy
    url: http://prometheus:9090
    isDefault: true
    jsonData:
      httpMethod: POST
      timeInterval: 5s
      exemplarTraceIdDestinations:
        - name: trace_id
          datasourceUid: tempo
  - name: Loki
    uid: loki
    type: loki
    access: proxy
    url: http://loki:3100
  - name: Tempo
    uid: tempo
    type: tempo
    access: proxy
    url: http://tempo:3200
    jsonData:
      tracesToLogsV2:
        datasourceUid: loki
        spanStartTimeShift: -1m
        spanEndTimeShift: 1m
        filterByTraceID: false
        tags:
          - key: service.name
            value: service
          - key: service.instance.id
            value: machine
";

/// The folder that Grafana reads dashboards from.
pub(super) const DASHBOARDS: &str = "\
apiVersion: 1
providers:
  - name: tree-state-source
    type: file
    allowUiUpdates: false
    options:
      path: /var/lib/grafana/dashboards
";
