// Package failpoint names the moments at which a kill would hurt most: before
// and after each durable write, around each byte that leaves for a device. In
// an ordinary build Here does nothing and costs nothing. Built with the tag
// failpoints it kills the process, as kill -9 does, the n-th time that the
// moment named by LABGATE_FAILPOINT (NAME or NAME#n) comes, and appends every
// moment that it passes to the file that LABGATE_FAILPOINT_LOG names.
//
// It never does anything else: it decides nothing and starts no goroutine.
package failpoint
