{{- define "headrace.labels" -}}
app.kubernetes.io/name: headrace
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "headrace.allLabels" -}}
{{ include "headrace.labels" . }}
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "headrace.name" -}}
{{ printf "%s-%s" .root.Release.Name .component | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The pods of one component. Takes root, component, command, resources, and optionally: kind, replicas, strategy, probes (the port's name) and port. */}}
{{- define "headrace.pods" -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: {{ .kind | default "Deployment" }}
metadata:
  name: {{ include "headrace.name" . }}
  labels: {{- include "headrace.allLabels" . | nindent 4 }}
spec:
  {{- if not (kindIs "invalid" .replicas) }}
  replicas: {{ .replicas }}
  {{- end }}
  {{- if eq (.kind | default "") "StatefulSet" }}
  serviceName: {{ include "headrace.name" . }}
  podManagementPolicy: Parallel
  {{- end }}
  {{- with .strategy }}
  strategy: {{- toYaml . | nindent 4 }}
  {{- end }}
  selector:
    matchLabels: {{- include "headrace.labels" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "headrace.allLabels" . | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        checksum/settings: {{ toYaml $values.settings | sha256sum }}
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      automountServiceAccountToken: {{ $values.serviceAccount.mountToken }}
      {{- with $values.serviceAccount.name }}
      serviceAccountName: {{ . }}
      {{- end }}
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile:
          type: RuntimeDefault
      terminationGracePeriodSeconds: 15  # a role ends within ten seconds
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "headrace.labels" . | nindent 14 }}
      containers:
        - name: {{ .component }}
          image: "{{ $values.image.repository }}:{{ $values.image.tag | default .root.Chart.AppVersion }}"
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args: {{- toYaml .command | nindent 12 }}
          envFrom:
            - configMapRef:
                name: {{ .root.Release.Name }}-settings
            {{- with $values.existingSecret }}
            - secretRef:
                name: {{ . }}
            {{- end }}
          {{- with .environment }}
          env: {{- toYaml . | nindent 12 }}
          {{- end }}
          {{- if .probes }}
          ports:
            - name: {{ .probes }}
              containerPort: {{ .port }}
          startupProbe:  # a worker that starts reads the newest of its event log first
            httpGet: {path: /livez, port: {{ .probes }}}
            periodSeconds: 5
            failureThreshold: 120
          livenessProbe:
            httpGet: {path: /livez, port: {{ .probes }}}
            periodSeconds: 15
            timeoutSeconds: 5
            failureThreshold: 4
          readinessProbe:
            httpGet: {path: /readyz, port: {{ .probes }}}
            periodSeconds: 5
            timeoutSeconds: 5
          {{- end }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          resources: {{- toYaml .resources | nindent 12 }}
          volumeMounts:
            - {name: scratch, mountPath: /tmp}
            - {name: data, mountPath: /data}
            {{- range $values.certificateSecrets }}
            - {name: {{ printf "certificate-%s" . }}, mountPath: {{ printf "/certificates/%s" . }}, readOnly: true}
            {{- end }}
      volumes:
        - name: scratch
          emptyDir: {}
        - name: data
          {{- if $values.existingClaim }}
          persistentVolumeClaim:
            claimName: {{ $values.existingClaim }}
          {{- else }}
          emptyDir: {}
          {{- end }}
        {{- range $values.certificateSecrets }}
        - name: {{ printf "certificate-%s" . }}
          secret:
            secretName: {{ . }}
        {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{/* Of the replicas of a component, one at a time may be away for maintenance. */}}
{{- define "headrace.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "headrace.name" . }}
  labels: {{- include "headrace.allLabels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- include "headrace.labels" . | nindent 6 }}
{{- end }}
