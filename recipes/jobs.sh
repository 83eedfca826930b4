# Work side by side, for the scripts of this folder, which source it: no process outlives the script, and where one
# of them fails the script ends. Without this, what runs in the background hears no Ctrl-C.

# Each has a process group of its own, so that its own processes end with it.
stop_jobs() {
  local job
  for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || true; done
  wait
}
trap stop_jobs EXIT

# Each says here how it ended: whether `wait -n` knows of those that ended before depends on the version of bash.
exec {ends}<> <(:)

beside() { # COMMAND...: starts it
  set -m
  (
    trap 'echo $? >&"$ends"' EXIT
    "$@"
  ) &
  set +m
}

finished() { # N: waits for so many of those that were started
  local count status
  for ((count = 0; count < $1; count++)); do
    read -r -u "$ends" status
    [ "$status" = 0 ] || exit "$status"
  done
}

alone_in() { # FOLDER: ends the script if another one, or what is left of it, is at work there
  exec {lock}> "$1/lock"
  flock -n "$lock" || { echo "${0##*/}: another one is at work in $1: wait for it, or end it" >&2; exit 1; }
}
