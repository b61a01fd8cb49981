//go:build !cgo

package journal

// SQLite is C code: without cgo the program would compile and then fail at its
// first start. This makes the compiler say so instead.
var _ = labgate_needs_cgo_set_CGO_ENABLED_1_and_install_a_C_compiler
