#!/bin/sh
# etcdctl as the first knetsim's slides use it: today's syntax goes to the real program, and the old `cluster-health`,
# `ls`, `set` and `rm` of etcd's version 2 are said in today's words. On a host without a member of its own it asks the
# cluster's members.
: "${ETCDCTL_API:=3}"
export ETCDCTL_API
endpoints="/tmp/knetsim/$(uname -n)/etcd-endpoints"
if [ -z "$ETCDCTL_ENDPOINTS" ] && [ -r "$endpoints" ]; then
    ETCDCTL_ENDPOINTS=$(cat "$endpoints")
    export ETCDCTL_ENDPOINTS
fi

cluster_health() {
    members=$(/usr/bin/etcdctl member list --write-out=simple) || exit 1
    unset ETCDCTL_ENDPOINTS # etcdctl refuses a flag that the environment says too
    total=0
    healthy=0
    IFS='
'
    for member in $members; do
        id=${member%%,*}
        rest=${member%, *}
        url=${rest##*, }
        total=$((total + 1))
        if /usr/bin/etcdctl --endpoints="$url" --command-timeout=2s endpoint health >/dev/null 2>&1; then
            healthy=$((healthy + 1))
            echo "member $id is healthy: got healthy result from $url"
        else
            echo "member $id is unreachable: $url does not answer"
        fi
    done
    if [ "$healthy" -eq "$total" ]; then
        echo "cluster is healthy"
    elif [ $((healthy * 2)) -gt "$total" ]; then
        echo "cluster is degraded"
        exit 5
    else
        echo "cluster is unavailable"
        exit 5
    fi
}

case "$1" in
cluster-health)
    cluster_health
    ;;
ls)
    shift
    [ "$1" = "-r" ] || [ "$1" = "--recursive" ] && shift
    exec /usr/bin/etcdctl get "${1:-/}" --prefix --keys-only
    ;;
set)
    shift
    exec /usr/bin/etcdctl put "$@"
    ;;
rm)
    shift
    exec /usr/bin/etcdctl del "$@"
    ;;
*)
    exec /usr/bin/etcdctl "$@"
    ;;
esac
