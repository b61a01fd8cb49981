// Package mqtt drives one instrument behind an MQTT broker: a JSON state that
// it publishes by itself, commands with an id, acknowledgements that echo the
// id, and binary payloads on topics that end in it. See docs/profiles.md.
//
// It promises that a command is published at most once for each Exchange,
// right after its permit was spent and never retained; that only an
// acknowledgement with the command's own id counts as one, whatever the broker
// says; that a reading carries the time its device gave it, so that a retained
// or repeated state is as old as it is; and that what a device sends is
// checked, bounded and never trusted to be text that is safe to show.
//
// It never reconnects by itself, never acts on a retained acknowledgement and
// never asks the broker to keep a session, so nothing is replayed.
//
// Who owns which goroutine: each connection has one goroutine that decodes
// what arrives, started and joined by the Link, and one short one for each
// publish, joined with the connection. The client library's own goroutines
// only put messages into bounded queues; they end with the connection.
package mqtt
