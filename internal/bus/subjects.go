package bus

import "strings"

// The subjects. Every part is a name (lab.ValidName), so one token.

// Proposals carries a principal's proposals. The server lets only that
// principal publish here: the subject is the identity.
func Proposals(lab, principal string) string { return "lab." + lab + ".proposals." + principal }

// Verdicts carries the answers to a principal's proposals.
func Verdicts(lab, principal string) string { return "lab." + lab + ".verdicts." + principal }

// Approvals carries a person's approvals and rejections.
func Approvals(lab, principal string) string { return "lab." + lab + ".approvals." + principal }

// Control carries what a principal asks of runs, latches and doubts.
func Control(lab, principal string) string { return "lab." + lab + ".control." + principal }

// Runs carries one kind of document of one run of a principal.
func Runs(lab, principal, run, document string) string {
	return "lab." + lab + ".runs." + principal + "." + run + "." + document
}

// Command carries commands to one instrument.
func Command(lab, gateway, instrument string) string {
	return "lab." + lab + ".gw." + gateway + "." + instrument + ".command"
}

// Outcome carries the outcomes of one instrument's commands.
func Outcome(lab, gateway, instrument string) string {
	return "lab." + lab + ".gw." + gateway + "." + instrument + ".outcome"
}

// Lease carries lease requests for one instrument.
func Lease(lab, gateway, instrument string) string {
	return "lab." + lab + ".gw." + gateway + "." + instrument + ".lease"
}

// Telemetry carries the readings of one property.
func Telemetry(lab, gateway, instrument, component, property string) string {
	return "lab." + lab + ".gw." + gateway + "." + instrument + ".telemetry." + component + "." + property
}

// Safety carries a gateway's trips, resets, alarms, refusals and stops.
func Safety(lab, gateway, what string) string {
	return "lab." + lab + ".gw." + gateway + ".safety." + what
}

// Stop carries emergency stops to every gateway.
func Stop(lab string) string { return "lab." + lab + ".stop" }

// Sender is the last token of a proposals, verdicts, approvals or control
// subject: who sent it, by the server's word.
func Sender(subject string) string { return subject[strings.LastIndexByte(subject, '.')+1:] }

// Inbox is a principal's own prefix for replies.
func Inbox(principal string) string { return "_INBOX_" + principal }
