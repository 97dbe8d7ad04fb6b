//go:build tools

// Package tools names the program that this module exists to build: flannel's CNI plugin, at the last release of the CNI
// project that holds it. It speaks CNI 0.4.0 and does not compile against later CNI libraries, hence a module of its own.
package tools

import _ "github.com/containernetworking/plugins/plugins/meta/flannel"
