//go:build tools

// Package tools names the program that this module exists to build: flanneld, unmodified. `go install` refuses it, since
// flannel's go.mod asks for a version of tencentcloud's common package that is gone; this module asks for a later one.
package tools

import _ "github.com/flannel-io/flannel"
