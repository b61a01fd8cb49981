// Package mqtt puts the spectrometer, the camera and the room of the simulated
// laboratory on an MQTT broker, each as a client of its own.
//
//	demo/<instrument>/state       its state as JSON, retained, five times a second
//	demo/<instrument>/command     {"id","command","args","expires"}
//	demo/<instrument>/ack         {"id","ok":true,"result":{…}} or {"id","ok":false,"error":"…"}
//	demo/<instrument>/frame/<id>  the camera's picture, before its acknowledgement
//
// A device acts on a command once: the same id again gets the same
// acknowledgement again. It does not act on a command that has expired, that
// the broker kept for it (retained), or that it does not wholly understand. A
// power cycle makes it forget the ids that it has seen.
//
// Each Device has one goroutine that owns its connection and everything it
// publishes; it connects anew for as long as its context lives, asking each
// time where the broker is. Handlers of the client library only enqueue. A
// device whose queue is full does not hear what comes next.
package mqtt
