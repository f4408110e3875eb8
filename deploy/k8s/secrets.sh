#!/usr/bin/env bash
# Makes every Secret that the manifests name: new passwords, new certificates of a new authority.
#
#   deploy/k8s/secrets.sh 1 | kubectl apply --namespace octarm -f -
#
# The number is that of the NATS servers: 1 for the overlay dev, 3 for prod. OCTARM_LLM_API_KEY, if
# it is set, is what the llm arm shows its provider. Nothing is written to disk but for a moment,
# and the authority's own key is thrown away. Where certificates are renewed by cert-manager or
# Secrets come from a vault, this is the list of what they have to provide.
set -euo pipefail
servers=${1:?usage: secrets.sh NUMBER-OF-NATS-SERVERS}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
umask 077

password() { openssl rand -hex 24; }

gateway=$(password) orchestrator=$(password) scheduler=$(password) arm_registry=$(password)
memory=$(password) provision=$(password) llm=$(password) retriever=$(password) sys=$(password)
postgres=$(password) postgres_orchestrator=$(password) postgres_memory=$(password)
redis=$(password) redis_memory=$(password) arm_key=$(password) retriever_key=$(password) client_key=$(password) operator_key=$(password)

# Every server is called by its own name; localhost is for `kubectl port-forward`.
names="DNS:localhost,IP:127.0.0.1,DNS:octarm-nats"
for ((number = 0; number < servers; number++)); do
  names+=",DNS:octarm-nats-$number.octarm-nats"
done
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 825 \
  -subj "/CN=Octarm bus authority" -keyout "$folder/ca.key" -out "$folder/ca.crt" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
  -subj "/CN=octarm-nats" -keyout "$folder/tls.key" -out "$folder/tls.csr" 2>/dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$names" >"$folder/extensions"
openssl x509 -req -in "$folder/tls.csr" -days 825 -CA "$folder/ca.crt" -CAkey "$folder/ca.key" \
  -CAcreateserial -extfile "$folder/extensions" -out "$folder/tls.crt" 2>/dev/null

nats_url() { # user, password
  local number separator=""
  printf 'octarm_nats_url: "'
  for ((number = 0; number < servers; number++)); do
    printf '%stls://%s:%s@octarm-nats-%d.octarm-nats:4222' "$separator" "$1" "$2" "$number"
    separator=,
  done
  printf '?ca=/run/secrets/octarm/ca.crt"\n'
}

postgres_url() { # role, password
  printf 'octarm_postgres_url: "postgresql://%s:%s@octarm-postgres:5432/octarm"\n' "$1" "$2"
}

file() { # key, path
  printf '%s: |\n' "$1"
  sed 's/^/  /' "$2"
}

secret() { # name; its entries come from standard input
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  labels:\n' "$1"
  printf '    app.kubernetes.io/part-of: octarm\ntype: Opaque\nstringData:\n'
  sed 's/^/  /'
}

{
  file ca.crt "$folder/ca.crt"
  file tls.crt "$folder/tls.crt"
  file tls.key "$folder/tls.key"
} | secret octarm-nats-tls

secret octarm-nats-passwords <<END
passwords.conf: |
  password_gateway: "$gateway"
  password_orchestrator: "$orchestrator"
  password_scheduler: "$scheduler"
  password_arm_registry: "$arm_registry"
  password_memory: "$memory"
  password_provision: "$provision"
  password_llm: "$llm"
  password_retriever: "$retriever"
  password_sys: "$sys"
END

secret octarm-postgres <<END
postgres: "$postgres"
orchestrator: "$postgres_orchestrator"
memory: "$postgres_memory"
END

# The default user is for probes and for people; memory has one that sees its own keys only.
secret octarm-redis <<END
password: "$redis"
password.conf: |
  requirepass $redis
  $(cat "$(dirname "$0")/../redis/memory.acl") >$redis_memory
END

# The first key is for clients, the second for operators and for KEDA (octarm-keda).
{
  nats_url gateway "$gateway"
  printf 'octarm_api_keys: |\n  {"%s": "default", "%s": "platform"}\n' "$client_key" "$operator_key"
} | secret octarm-gateway
printf 'api-key: "%s"\n' "$operator_key" | secret octarm-keda
printf 'api-key: "%s"\n' "$client_key" | secret octarm-client

{
  nats_url orchestrator "$orchestrator"
  postgres_url orchestrator "$postgres_orchestrator"
} | secret octarm-orchestrator
nats_url scheduler "$scheduler" | secret octarm-scheduler
nats_url arm-registry "$arm_registry" | secret octarm-arm-registry
{
  nats_url memory "$memory"
  postgres_url memory "$postgres_memory"
  printf 'octarm_redis_url: "redis://octarm-memory:%s@octarm-redis:6379/0"\n' "$redis_memory"
} | secret octarm-memory
nats_url provision "$provision" | secret octarm-provision
{
  nats_url retriever "$retriever"
  printf 'octarm_arm_key: "%s"\n' "$retriever_key"
} | secret octarm-retriever
{
  nats_url llm "$llm"
  printf 'octarm_arm_key: "%s"\n' "$arm_key"
  if [ -n "${OCTARM_LLM_API_KEY:-}" ]; then
    printf 'octarm_llm_api_key: "%s"\n' "$OCTARM_LLM_API_KEY"
  fi
} | secret octarm-llm
