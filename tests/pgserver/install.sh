#!/usr/bin/env bash
# Makes sure that PostgreSQL 15 or newer is here with what the tests and pgdts itself call: initdb,
# postgres, pg_dump, psql and pgbench. Installs it with the system's package manager where it is not.
# No cluster of the system is created or started: the tests run servers of their own.
set -euo pipefail

major_min=15
programs=(initdb postgres pg_dump psql pgbench)

# candidates are the places in which pgserver.Find looks for an installation.
candidates() {
  echo "${PGDTS_PG_BIN:-}"
  pg_config --bindir 2>/dev/null || true
  printf '%s\n' /usr/lib/postgresql/*/bin
  tr : '\n' <<<"$PATH"
  # Homebrew links no versioned formula into PATH.
  printf '%s\n' /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin
}

complete() {
  local program
  for program in "${programs[@]}"; do
    [ -x "$1/$program" ] || return 1
  done
  local version
  version=$("$1/postgres" --version | sed -E 's/.*PostgreSQL\) ([0-9]+).*/\1/')
  [ "$version" -ge "$major_min" ] 2>/dev/null
}

find_installation() {
  local dir
  while read -r dir; do
    if [ -n "$dir" ] && complete "$dir"; then
      echo "$dir"
      return
    fi
  done < <(candidates)
  return 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# The file tells postgresql-common to create no cluster for the new version; it goes afterwards, so
# that the machine's own habits stay as they were. Clusters that exist are not touched.
install_with_apt() {
  local settings=/etc/postgresql-common/createcluster.d
  local no_cluster=$settings/pgdts.conf
  as_root apt-get update -q
  local package
  package=$(apt-cache search --names-only '^postgresql-[0-9]+$' | cut -d' ' -f1 | sort -V | tail -1)
  if [ -z "$package" ]; then
    return 1
  fi
  as_root mkdir -p "$settings"
  echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
  local status=0
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$package" || status=$?
  as_root rm "$no_cluster"
  as_root rmdir --ignore-fail-on-non-empty "$settings"
  return "$status"
}

install_it() {
  if command -v apt-get >/dev/null; then
    install_with_apt
  elif command -v dnf >/dev/null; then
    # These packages create no cluster.
    as_root dnf install -y postgresql postgresql-server postgresql-contrib
  elif command -v brew >/dev/null; then
    # A formula is started by `brew services` only.
    brew install postgresql@17
  else
    return 1
  fi
}

if ! found=$(find_installation); then
  echo "PostgreSQL $major_min or newer with ${programs[*]} is not here: installing it" >&2
  if ! install_it || ! found=$(find_installation); then
    echo "install PostgreSQL $major_min or newer and set PGDTS_PG_BIN to its bin directory" >&2
    exit 1
  fi
fi
echo "PostgreSQL: $found ($("$found/postgres" --version))"
