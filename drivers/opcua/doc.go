// Package opcua drives instruments behind an OPC UA server: one Link for all
// instruments of one endpoint.
//
// It promises that a method is called at most once for each Exchange, right
// after its permit was spent; that a value of the wrong type, without a time
// of its own or from a node that the server calls bad never looks like a good
// one; and that after any doubt about the connection nothing more is sent
// until its owner connects again. Namespaces are found by their URI at every
// Connect, never by an index that a server may change.
//
// It never reconnects by itself (but for the second try of a Stop), never
// retries a call, and never talks to a server without a security policy unless
// the lab file says "insecure: true" for every instrument behind it. With a
// policy everything is signed and encrypted, with a server whose certificate
// the trust list of package pki accepts, and that certificate only: it is looked
// at before each request, because the client library takes any.
//
// Who owns which goroutine: the Link starts none. The client library runs a
// receiver and a monitor for each connection; both end when the Link cuts the
// socket, which it does on every loss, at every Connect and in Close.
package opcua
