{{/* As a name of a Service (it begins with a letter and has no dots) of at most 52 characters, so that Pods and revisions of a
StatefulSet find room for their suffixes. What is longer ends in a digest, so that two names do not become one. */}}
{{- define "tidings.dnsLabel" -}}
{{- $name := . | lower | replace "." "-" | replace "_" "-" -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- $name = printf "tidings-%s" $name -}}
{{- end -}}
{{- if gt (len $name) 52 -}}
{{- $name = printf "%s-%s" ($name | trunc 43 | trimSuffix "-") (. | sha256sum | trunc 8) -}}
{{- end -}}
{{- $name | trimSuffix "-" -}}
{{- end -}}

{{- define "tidings.shortName" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidings.name" -}}
{{- $short := include "tidings.shortName" . -}}
{{- if .Values.fullnameOverride -}}
{{- include "tidings.dnsLabel" .Values.fullnameOverride -}}
{{- else if contains $short .Release.Name -}}
{{- include "tidings.dnsLabel" .Release.Name -}}
{{- else -}}
{{- include "tidings.dnsLabel" (printf "%s-%s" .Release.Name $short) -}}
{{- end -}}
{{- end -}}

{{- define "tidings.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "tidings.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "tidings.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tidings.selector" -}}
app.kubernetes.io/name: {{ include "tidings.shortName" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "tidings.labels" -}}
{{ include "tidings.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Without the keys that a user took away by null, which not every Helm does itself. */}}
{{- define "tidings.withoutNulls" -}}
{{- $kept := dict -}}
{{- range $key, $value := . -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $kept $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $kept -}}
{{- end -}}

{{/* The configuration file as JSON: what the user said, and what the chart adds where the user said nothing. */}}
{{- define "tidings.config" -}}
{{- $config := deepCopy (.Values.config | default dict) -}}
{{- $server := deepCopy ($config.server | default dict) -}}
{{- $_ := set $server "listen" ($server.listen | default "[::]:8787") -}}
{{- $_ := set $server "admin_listen" ($server.admin_listen | default "[::]:9464") -}}
{{- if include "tidings.usesToken" . -}}
{{- $_ := set $server "token_file" (printf "/run/secrets/%s/%s" .Values.token.secretName .Values.token.key) -}}
{{- end -}}
{{- if .Values.ingress.enabled -}}
{{- $hosts := $server.allowed_hosts | default list -}}
{{- $old := $server.hosts | default list -}}
{{- if not (and (kindIs "slice" $hosts) (kindIs "slice" $old)) -}}
{{- fail "config.server.allowed_hosts must be a list" -}}
{{- end -}}
{{- $hosts = concat $hosts $old -}}
{{- range .Values.ingress.hosts -}}
{{- if not (hasPrefix "*" .) -}}
{{- $hosts = append $hosts . -}}
{{- end -}}
{{- end -}}
{{- $_ := set $server "allowed_hosts" (uniq $hosts) -}}
{{- $_ := unset $server "hosts" -}}
{{- end -}}
{{- $store := deepCopy ($config.store | default dict) -}}
{{- $_ := set $store "path" ($store.path | default "/data/store") -}}
{{- if include "tidings.usesDatabaseSecret" . -}}
{{- $_ := set $store "url_file" (printf "/run/secrets/%s/%s" .Values.postgres.secretName .Values.postgres.key) -}}
{{- end -}}
{{- $log := deepCopy ($config.log | default dict) -}}
{{- $_ := set $log "format" ($log.format | default "json") -}}
{{- $_ := set $config "server" $server -}}
{{- $_ := set $config "store" $store -}}
{{- $_ := set $config "log" $log -}}
{{- if include "tidings.givesRetabItsKey" . -}}
{{- $retab := ($config.sources | default dict).retab | default dict -}}
{{- $retab = merge (dict "api_key_file" "/run/secrets/retab/api-key") $retab -}}
{{- $_ := set $config "sources" (merge (dict "retab" $retab) ($config.sources | default dict)) -}}
{{- end -}}
{{- toJson $config -}}
{{- end -}}

{{/* Whether the store is a database. Refuses what several replicas cannot share. */}}
{{- define "tidings.usesDatabase" -}}
{{- $store := (.Values.config | default dict).store | default dict -}}
{{- $isDatabase := eq ($store.type | default "sled" | toString) "postgres" -}}
{{- if gt (int64 .Values.replicas) 1 -}}
{{- if not $isDatabase -}}
{{- fail (printf "replicas: %d need config.store.type: postgres; a data folder has one process at a time" (int64 .Values.replicas)) -}}
{{- end -}}
{{- range $key := list "replica" "advertise" -}}
{{- if hasKey $store $key -}}
{{- fail (printf "config.store.%s: every replica needs its own; leave it out, and the chart names each after its Pod" $key) -}}
{{- end -}}
{{- end -}}
{{- if .Values.persistence.existingClaim -}}
{{- fail "persistence.existingClaim: one process at a time uses a volume; with several replicas leave it out" -}}
{{- end -}}
{{- end -}}
{{- if $isDatabase -}}true{{- end -}}
{{- end -}}

{{/* Whether the URL of the database comes from the chart's Secret. */}}
{{- define "tidings.usesDatabaseSecret" -}}
{{- $store := (.Values.config | default dict).store | default dict -}}
{{- $given := or $store.url $store.url_file .Values.extraEnvFrom -}}
{{- range .Values.extraEnv -}}
{{- $given = or $given (has .name (list "TIDINGS_STORE__URL" "TIDINGS_STORE__URL_FILE")) -}}
{{- end -}}
{{- if and (include "tidings.usesDatabase" .) (not $given) -}}true{{- end -}}
{{- end -}}

{{/* Whether the token comes from the chart's Secret. */}}
{{- define "tidings.usesToken" -}}
{{- $server := (.Values.config | default dict).server | default dict -}}
{{- if not (or $server.token $server.token_file) -}}true{{- end -}}
{{- end -}}

{{/* Whether the key of Retab's API comes from the Secret `retab`: when no source is named, so that it is the one, or when it is named
and neither it nor the environment has a key. */}}
{{- define "tidings.givesRetabItsKey" -}}
{{- $sources := (.Values.config | default dict).sources | default dict -}}
{{- $retab := $sources.retab | default dict -}}
{{- $named := or (not $sources) (hasKey $sources "retab") -}}
{{- $keyed := or $retab.api_key $retab.api_key_file $retab.base_url .Values.extraEnvFrom -}}
{{- range .Values.extraEnv -}}
{{- $keyed = or $keyed (has .name (list "RETAB_API_KEY" "TIDINGS_SOURCES__RETAB__API_KEY" "TIDINGS_SOURCES__RETAB__API_KEY_FILE")) -}}
{{- end -}}
{{- if and $named (not $keyed) -}}true{{- end -}}
{{- end -}}

{{/* The Secrets that are mounted, as JSON. */}}
{{- define "tidings.secrets" -}}
{{- $secrets := .Values.secrets -}}
{{- if include "tidings.givesRetabItsKey" . -}}
{{- $secrets = prepend $secrets "retab" -}}
{{- end -}}
{{- if include "tidings.usesDatabaseSecret" . -}}
{{- $secrets = prepend $secrets .Values.postgres.secretName -}}
{{- end -}}
{{- if include "tidings.usesToken" . -}}
{{- $secrets = prepend $secrets .Values.token.secretName -}}
{{- end -}}
{{- toJson (uniq $secrets) -}}
{{- end -}}

{{/* The digest of what a running daemon does not take up from a changed file; docs/guide/operations.md, "Change the configuration". */}}
{{- define "tidings.readAtStart" -}}
{{- $config := omit (fromJson (include "tidings.config" .)) "sinks" "sources" "routes" "callbacks" "page" "watch" -}}
{{- $_ := set $config "log" (omit $config.log "level") -}}
{{- $_ := set $config "store" (omit $config.store "retention") -}}
{{- toJson $config | sha256sum -}}
{{- end -}}

{{/* The port of an address such as [::]:8787. */}}
{{- define "tidings.port" -}}
{{- if hasPrefix "unix:" . -}}
{{- fail (printf "config.server: %s cannot be reached by a Service or a probe; write host:port" .) -}}
{{- end -}}
{{- required (printf "config.server: %s has no port; write host:port" .) (regexFind "[0-9]+$" .) -}}
{{- end -}}
