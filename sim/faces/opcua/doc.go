// Package opcua puts the reactor and the coating cell of the simulated
// laboratory behind OPC UA servers on loopback: a tree shaped like LADS (OPC
// 30500) and one shaped like PackML (OPC 30050). They have no security, or an
// identity, by which all is signed and encrypted, and users; a Restart with
// another identity is what a changed or expired certificate looks like.
//
// A value is computed when it is asked for, all values of one request at the
// same instant, with the world's time as source time. Everything is read-only:
// effects come from method calls alone, whose arguments are checked for number
// and type. A call whose asker has already given up (its time-out hint has
// passed on its way) does nothing.
//
// The server stands on the transport of github.com/gopcua/opcua and has
// services of its own: sessions, read, write, browse, translate, call and
// subscriptions, each with limits, and a namespace 0 of what clients need to
// find their way, not the whole standard one.
//
// A Server has one goroutine that accepts, and one for each connection, which
// owns the channel, its sessions and their subscriptions, so that a client that
// is frozen or killed disturbs nobody else. They end when the context of
// Reactor or Cell is done, and Wait joins them.
package opcua
