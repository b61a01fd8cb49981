package messages

import _ "embed" // for the schema

// ProposalSchema is the JSON Schema of a proposal, for those that write them.
// What DecodeProposal reads without an issue passes it; the protocol's own
// inputs have a schema of their own (see protocols.Protocol.InputSchema).
//
//go:embed schema/proposal.json
var ProposalSchema []byte
