package bus

import (
	"strings"

	"labgate/lab"
)

// The subjects. Every part is a name (lab.ValidName), so one token.

// Proposals carries a principal's proposals. The server lets only that
// principal publish here: the subject is the identity.
func Proposals(labName, principal string) string { return "lab." + labName + ".proposals." + principal }

// Verdicts carries the answers to a principal's proposals.
func Verdicts(labName, principal string) string { return "lab." + labName + ".verdicts." + principal }

// Approvals carries a person's approvals and rejections.
func Approvals(labName, principal string) string { return "lab." + labName + ".approvals." + principal }

// Control carries what a principal asks of runs, latches and doubts.
func Control(labName, principal string) string { return "lab." + labName + ".control." + principal }

// Runs carries one kind of document of one run of a principal.
func Runs(labName, principal, run, document string) string {
	return "lab." + labName + ".runs." + principal + "." + run + "." + document
}

// Command carries commands to one instrument.
func Command(labName, gateway, instrument string) string {
	return "lab." + labName + ".gw." + gateway + "." + instrument + ".command"
}

// Outcome carries the outcomes of one instrument's commands.
func Outcome(labName, gateway, instrument string) string {
	return "lab." + labName + ".gw." + gateway + "." + instrument + ".outcome"
}

// Lease carries lease requests for one instrument.
func Lease(labName, gateway, instrument string) string {
	return "lab." + labName + ".gw." + gateway + "." + instrument + ".lease"
}

// Telemetry carries the readings of one property.
func Telemetry(labName, gateway, instrument, component, property string) string {
	return "lab." + labName + ".gw." + gateway + "." + instrument + ".telemetry." + component + "." + property
}

// Safety carries a gateway's trips, resets, alarms, refusals and stops.
func Safety(labName, gateway, what string) string {
	return "lab." + labName + ".gw." + gateway + ".safety." + what
}

// Stop carries emergency stops to every gateway.
func Stop(labName string) string { return "lab." + labName + ".stop" }

// Sim carries what people ask of a simulated laboratory's world: faults, knobs.
func Sim(labName string) string { return "lab." + labName + ".sim" }

// Sender is the last token of a proposals, verdicts, approvals or control
// subject: who sent it, by the server's word.
func Sender(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// ParseSender reads a subject that names its sender: what it is (proposals,
// verdicts, approvals, control) and who. Verdicts name who they are for.
func ParseSender(labName, subject string) (what, principal string, ok bool) {
	t := strings.Split(subject, ".")
	if len(t) != 4 || t[0] != "lab" || t[1] != labName || !lab.ValidName(t[3]) {
		return "", "", false
	}
	switch t[2] {
	case "proposals", "verdicts", "approvals", "control":
		return t[2], t[3], true
	}
	return "", "", false
}

const inboxPrefix = "_INBOX_"

// Inbox is the prefix of the reply subjects of a principal or a part. Wildcards
// are whole tokens, so nobody's rights reach into another's.
func Inbox(principal string) string { return inboxPrefix + principal }
