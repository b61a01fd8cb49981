package mqtt

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"labgate/internal/pki"
)

// maxAuthorities bounds the file of authorities.
const maxAuthorities = 1 << 20

// security is how a broker with TLS is known, and how it knows us. The broker's
// certificate has to be for its host, and issued by an authority of ca_file, or
// by one that the machine trusts where there is no such file. What is read is
// read at each connection.
func security(address map[string]string, now time.Time) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, Time: func() time.Time { return now }}
	if file := address["ca_file"]; file != "" {
		info, err := os.Stat(file)
		if err == nil && info.Size() > maxAuthorities {
			err = fmt.Errorf("it is larger than %d bytes", maxAuthorities)
		}
		var b []byte
		if err == nil {
			b, err = os.ReadFile(file)
		}
		if err != nil {
			return nil, fmt.Errorf("the broker's authorities: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("the broker's authorities: %s holds no certificate", file)
		}
	}
	if name := address["user_certificate"]; name != "" {
		me, err := pki.At(address["pki"]).User(name, now)
		if err != nil {
			return nil, fmt.Errorf("the certificate to log in with: %w", err)
		}
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{me.Certificate}, PrivateKey: me.Key}}
	}
	return c, nil
}

// distrust is what an error of a handshake means to a person.
func distrust(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("nobody trusts the broker's certificate: put its authority's into the data folder's pki/brokers and name it as ca_file: %w", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("the broker's certificate is expired or not yet valid: %w", err)
	case errors.As(err, &host):
		return fmt.Errorf("the broker's certificate is for another host: %w", err)
	}
	return err
}
