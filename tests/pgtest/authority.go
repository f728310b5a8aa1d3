package pgtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgdts/pgdts/tests/pgserver"
)

// Authority signs certificates.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// PEM is its own certificate.
	PEM []byte
}

// NewAuthority makes one that nobody trusts yet.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der := sign(t, template, template, key, key)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{certificate: certificate, key: key, PEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Holder is who a certificate is for. The zero times mean from an hour ago until in an hour.
type Holder struct {
	CommonName string
	Hosts      []string // names and addresses
	From, To   time.Time
}

// Issue signs a certificate with a new key, both as PEM; the key is unencrypted PKCS #8.
func (a *Authority) Issue(t testing.TB, holder Holder) (certificate, key []byte) {
	t.Helper()
	if holder.From.IsZero() {
		holder.From = time.Now().Add(-time.Hour)
	}
	if holder.To.IsZero() {
		holder.To = time.Now().Add(time.Hour)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: holder.CommonName}, NotBefore: holder.From, NotAfter: holder.To,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range holder.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	secret := newKey(t)
	encoded, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sign(t, template, a.certificate, secret, a.key)}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// Encrypt lets a server speak TLS with a certificate for a holder, and trust this authority for its clients. A second call
// replaces the certificate.
func (a *Authority) Encrypt(t testing.TB, server *pgserver.Server, holder Holder) {
	t.Helper()
	certificate, key := a.Issue(t, holder)
	for name, content := range map[string][]byte{"server.pem": certificate, "server.key": key, "clients.pem": a.PEM} {
		if _, err := server.Put(name, content); err != nil {
			t.Fatal(err)
		}
	}
	for _, setting := range [][2]string{
		{"ssl_cert_file", "server.pem"}, {"ssl_key_file", "server.key"}, {"ssl_ca_file", "clients.pem"}, {"ssl", "on"},
	} {
		if err := server.Set(t.Context(), setting[0], setting[1]); err != nil {
			t.Fatal(err)
		}
	}
}

// Client writes a certificate and its key, encrypted where a password is given, into a directory, and returns the paths.
func (a *Authority) Client(t testing.TB, dir, password string, holder Holder) (certificate, key string) {
	t.Helper()
	shown, secret := a.Issue(t, holder)
	if password != "" {
		secret = encryptKey(t, secret, password)
	}
	return WriteSecret(t, dir, holder.CommonName+".pem", shown), WriteSecret(t, dir, holder.CommonName+".key", secret)
}

// WriteSecret writes a file that nobody else may read, and returns its path.
func WriteSecret(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The object identifiers of RFC 8018 for what openssl writes today.
var (
	oidPBES2      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidHMACSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

// encryptKey gives PKCS #8 under PBES2, as `openssl pkcs8 -topk8` does.
func encryptKey(t testing.TB, plain []byte, password string) []byte {
	t.Helper()
	const iterations = 2048
	salt, vector := []byte(rand.Text()[:16]), []byte(rand.Text()[:aes.BlockSize])
	secret, err := pbkdf2.Key(sha256.New, password, salt, iterations, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		t.Fatal(err)
	}
	inner, _ := pem.Decode(plain)
	data := inner.Bytes
	padding := aes.BlockSize - len(data)%aes.BlockSize
	data = append(data, bytes.Repeat([]byte{byte(padding)}, padding)...)
	cipher.NewCBCEncrypter(block, vector).CryptBlocks(data, data)
	type algorithm struct {
		OID        asn1.ObjectIdentifier
		Parameters any
	}
	der, err := asn1.Marshal(struct {
		Algorithm algorithm
		Data      []byte
	}{
		algorithm{oidPBES2, struct{ Derivation, Scheme algorithm }{
			algorithm{oidPBKDF2, struct {
				Salt       []byte
				Iterations int
				PRF        algorithm
			}{salt, iterations, algorithm{oidHMACSHA256, asn1.NullRawValue}}},
			algorithm{oidAES256CBC, vector},
		}}, data,
	})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
}
