package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"labgate/lab"
)

// maxSecret is how long a password may be.
const maxSecret = 4096

// pki is where the data folder keeps certificates.
func (f folder) pki() string { return f.path("pki") }

// insecureLinks are the instruments whose links have no security, by
// "insecure: true".
func insecureLinks(l *lab.Lab) (names []string) {
	for _, in := range l.Instruments {
		if in.Link["insecure"] == "true" {
			names = append(names, in.Name)
		}
	}
	return names
}

// credentials puts into a resolved link what a lab file only names: the folder
// of certificates, and the password out of the file or the environment. It is
// read at each connection, so that a changed password counts from the next one
// on.
func (f folder) credentials(in *lab.Instrument, link map[string]string) error {
	switch in.Profile.Link.Kind {
	case lab.LinkOPCUA:
		link["pki"] = f.pki()
	case lab.LinkMQTT:
		link["pki"] = f.pki()
		if link["ca_file"] != "" {
			link["ca_file"] = f.path("pki", "brokers", link["ca_file"])
		}
	}
	var err error
	switch file, env := link["password_file"], link["password_env"]; {
	case file != "":
		link["password"], err = f.secret(file)
	case env != "":
		link["password"] = os.Getenv(env)
		if link["password"] == "" {
			err = fmt.Errorf("the environment variable %s holds no password", env)
		}
	}
	if err != nil {
		return lab.E("address", in.Name, lab.KindUnavailable, err)
	}
	return nil
}

// secret reads a file of the folder secrets, which only its owner may read.
func (f folder) secret(name string) (string, error) {
	path := f.path("secrets", name)
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("no password: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return "", fmt.Errorf("%s may be read by others than its owner: chmod 600 it", path)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	s := strings.TrimRight(string(b), "\r\n")
	if err == nil && (s == "" || len(b) > maxSecret) {
		err = fmt.Errorf("%s holds no password of at most %d bytes", path, maxSecret)
	}
	return s, err
}
