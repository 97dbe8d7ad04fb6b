# shellcheck shell=bash disable=SC2034,SC2154
# What the programs of this module say of themselves, as hack/lib/version.sh of Kubernetes writes it into a release. The
# commit is not known here: the Go module does not tell it. Sourced by the descriptions, after `version` is set.

IFS=. read -r major minor _ <<<"${version#v}"
for symbols in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    stamps+=("$symbols.gitVersion=$version" "$symbols.gitMajor=$major" "$symbols.gitMinor=$minor")
    # the time of the release's commit (`go mod download -json` tells it), so that a build can be repeated
    stamps+=("$symbols.gitCommit=" "$symbols.gitTreeState=clean" "$symbols.buildDate=2026-07-22T18:07:38Z")
done
unset major minor symbols

tags=selinux,notest,grpcnotrace # as hack/lib/golang.sh builds a release
