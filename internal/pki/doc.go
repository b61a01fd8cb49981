// Package pki keeps the certificates of OPC UA: whom this gateway trusts, and
// who it is itself.
//
// A Store is a folder:
//
//	own/       certificate.der and private-key.pem: what this gateway shows servers
//	users/     NAME.der and NAME.pem: certificates that log a user in
//	trusted/   certificates of servers, or of authorities, that are trusted
//	issuers/   certificates that complete chains, and give no trust
//	rejected/  servers' certificates that were refused because nobody trusts them yet
//	crl/       authorities' lists of what they have revoked
//
// Certificates are DER or PEM. It promises that Verify accepts nothing that a
// human has not put into trusted/, and nothing that such a certificate did not
// sign; that every doubt is a refusal (a revocation list that is missing, too
// old or unreadable; a certificate that can't be read); that what a server
// sends costs bounded time and memory, however long its chain is; and that a
// key which is there is never overwritten. It uses only the standard library.
//
// The folder is read anew on every call, so that what a human puts there counts
// from the next connection on. It starts no goroutine. A Store is safe for
// concurrent use as far as the file system is.
package pki
