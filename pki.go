package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"labgate/internal/pki"
)

type pkiInitCmd struct {
	where
	URI  string   `name:"uri" help:"The application URI of this gateway (default: urn:HOST:labgate)." placeholder:"URI"`
	Host []string `help:"A name or address of this machine; again for each (default: its host name)." placeholder:"NAME"`
	Days int      `help:"How long the certificate is valid." default:"1825"`
	User string   `help:"Make a user's certificate instead, by which a link with user_certificate logs in." placeholder:"NAME"`
}

// mostDays is how long a certificate may be valid: who needs longer forgets it.
const mostDays = 3650

// Run makes the folder, and a key with a certificate, once.
func (c *pkiInitCmd) Run(a *app) error {
	if c.Days < 1 || c.Days > mostDays {
		return fmt.Errorf("%w: --days %d; from 1 to %d", errUsage, c.Days, mostDays)
	}
	store := pki.At(c.folder().pki())
	n := pki.New{Now: time.Now(), Valid: time.Duration(c.Days) * 24 * time.Hour}
	var e pki.Entry
	var err error
	if c.User != "" {
		if c.URI != "" || len(c.Host) > 0 {
			return fmt.Errorf("%w: a user's certificate has no --uri and no --host", errUsage)
		}
		n.Name = c.User
		e, err = store.InitUser(n)
	} else {
		host, herr := os.Hostname()
		if herr != nil || host == "" {
			host = "localhost"
		}
		if n.URI, n.Hosts = c.URI, c.Host; n.URI == "" {
			n.URI = "urn:" + host + ":labgate"
		}
		if len(n.Hosts) == 0 {
			n.Hosts = []string{host}
		}
		n.Name = "labgate on " + n.Hosts[0]
		e, err = store.Init(n)
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is one already, and servers may trust it; to make another, move it away first: %w", err)
	}
	if err != nil {
		return err
	}
	a.certificate(store, e)
	a.say("made %s", filepath.Join(store.Dir(), e.State, e.File))
	a.say("Now let each OPC UA server trust this certificate; what a server shows here is trusted by: labgate pki trust THUMBPRINT")
	return nil
}

type pkiTrustCmd struct {
	where
	What string `arg:"" help:"The whole thumbprint of a certificate in rejected, or a file with a certificate."`
}

// Run trusts one certificate.
func (c *pkiTrustCmd) Run(a *app) error {
	store := pki.At(c.folder().pki())
	trust := store.TrustFile
	if pki.IsThumbprint(c.What) {
		trust = store.Trust
	} else if _, err := os.Stat(c.What); err != nil {
		return fmt.Errorf("%q is neither a whole thumbprint (40 or 64 hexadecimal digits; labgate pki list shows them) nor a file: %w", c.What, err)
	}
	e, err := trust(c.What)
	if err != nil {
		return err
	}
	a.certificate(store, e)
	a.say("trusted from the next connection on; to take it back, remove %s", filepath.Join(store.Dir(), e.State, e.File))
	return nil
}

type pkiListCmd struct{ where }

// Run lists what there is. It says nothing about keys.
func (c *pkiListCmd) Run(a *app) error {
	store := pki.At(c.folder().pki())
	list, err := store.List()
	if err != nil {
		return err
	}
	if a.json {
		for _, e := range list {
			a.certificate(store, e)
		}
		a.line(map[string]any{"type": "summary", "certificates": len(list), "folder": store.Dir()})
		return nil
	}
	if len(list) == 0 {
		a.say("nothing in %s; make this gateway's certificate: labgate pki init", store.Dir())
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tTHUMBPRINT\tVALID\tAPPLICATION\tSUBJECT")
	for _, e := range list {
		thumb := e.Thumbprint
		if thumb == "" {
			thumb = e.File
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.State, thumb, validity(e, time.Now()), e.URI, e.Subject)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, e := range list {
		if e.State == "rejected" && e.Bad == "" {
			a.say("\nSomebody showed certificates that nobody trusts. Compare a thumbprint with the device's own, then: labgate pki trust THUMBPRINT")
			break
		}
	}
	return nil
}

// validity is what a person has to know of an entry's times.
func validity(e pki.Entry, now time.Time) string {
	switch {
	case e.Bad != "":
		return "unusable: " + e.Bad
	case now.Before(e.From):
		return "not before " + e.From.Format(time.DateOnly)
	case now.After(e.To):
		return "EXPIRED " + e.To.Format(time.DateOnly)
	}
	return "until " + e.To.Format(time.DateOnly)
}

// certificate is one certificate for machines, and the main things for people.
func (a *app) certificate(store *pki.Store, e pki.Entry) {
	if !a.json {
		a.say("%-12s %s", e.State, e.Subject)
		for _, x := range [][2]string{{"thumbprint", e.Thumbprint}, {"SHA-256", e.SHA256}, {"application", e.URI}, {"hosts", e.Hosts}, {"valid", validity(e, time.Now())}} {
			if x[1] != "" {
				a.say("  %-11s %s", x[0], x[1])
			}
		}
		return
	}
	type certificate struct {
		Type       string    `json:"type"`
		State      string    `json:"state"`
		File       string    `json:"file"`
		Thumbprint string    `json:"thumbprint,omitempty"`
		SHA256     string    `json:"sha256,omitempty"`
		Subject    string    `json:"subject,omitempty"`
		URI        string    `json:"uri,omitempty"`
		Hosts      string    `json:"hosts,omitempty"`
		From       time.Time `json:"from,omitzero"`
		To         time.Time `json:"to,omitzero"`
		Valid      bool      `json:"valid"`
		Say        string    `json:"say"`
	}
	say := validity(e, time.Now())
	a.line(certificate{"certificate", e.State, filepath.Join(store.Dir(), e.State, e.File), e.Thumbprint, e.SHA256, e.Subject, e.URI, e.Hosts, e.From, e.To, strings.HasPrefix(say, "until "), say})
}
