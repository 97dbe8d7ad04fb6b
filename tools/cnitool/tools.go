//go:build tools

// Package tools names the program that this module exists to build: the CNI project's own command to run a plugin chain.
package tools

import _ "github.com/containernetworking/cni/cnitool"
