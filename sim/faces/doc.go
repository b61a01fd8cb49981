// Package faces puts the simulated laboratory on real wires: two OPC UA servers
// on loopback, two serial lines, and three MQTT clients. Whoever drives the
// instruments can't tell them from devices, except that they are on this
// machine.
//
// A Host owns the world and steps it to the clock whenever anybody looks, so
// that time passes in it as it does outside. The wires' own faults are acted
// out by the faces; what they are is said in package wire.
//
// Start starts everything, and Running.Wait joins every goroutine once its
// context is done. The control server lets another process set faults and read
// the count of physical effects; it is no part of any instrument.
package faces
