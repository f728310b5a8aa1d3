package pg

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // keys that exist were encrypted with it
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// errKeyForm means an encrypted key whose encryption is not PBES2 with PBKDF2 and a known cipher.
var errKeyForm = errors.New("want PBES2 with PBKDF2 and AES or 3DES in CBC mode")

var errKeyPassword = errors.New("wrong password")

// The structures of RFC 8018, appendix A.
type (
	encryptedKey struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2 struct{ Derivation, Scheme pkix.AlgorithmIdentifier }
	kdf   struct {
		Salt       []byte
		Iterations int
		Length     int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	// iterationsMax bounds the work that a key may ask for: openssl writes 2048, careful people a million.
	iterationsMax = 100_000_000
)

var hashes = map[string]func() hash.Hash{
	"":                    sha1.New, // the default
	"1.2.840.113549.2.7":  sha1.New,
	"1.2.840.113549.2.8":  sha256.New224,
	"1.2.840.113549.2.9":  sha256.New,
	"1.2.840.113549.2.10": sha512.New384,
	"1.2.840.113549.2.11": sha512.New,
	"1.2.840.113549.2.12": sha512.New512_224,
	"1.2.840.113549.2.13": sha512.New512_256,
}

var ciphers = map[string]struct {
	keyBytes int
	block    func(key []byte) (cipher.Block, error)
}{
	"2.16.840.1.101.3.4.1.2":  {16, aes.NewCipher},
	"2.16.840.1.101.3.4.1.22": {24, aes.NewCipher},
	"2.16.840.1.101.3.4.1.42": {32, aes.NewCipher},
	"1.2.840.113549.3.7":      {24, des.NewTripleDESCipher},
}

// decryptPKCS8 opens an "ENCRYPTED PRIVATE KEY", the form that openssl writes today, which crypto/x509 does not read. The
// error is errKeyForm or errKeyPassword; a wrong password may also give bytes that are no key.
func decryptPKCS8(der []byte, password string) ([]byte, error) {
	var key encryptedKey
	var scheme pbes2
	var derivation kdf
	var vector []byte
	if !decoded(der, &key) || key.Algorithm.Algorithm.String() != oidPBES2 || !decoded(key.Algorithm.Parameters.FullBytes, &scheme) ||
		scheme.Derivation.Algorithm.String() != oidPBKDF2 || !decoded(scheme.Derivation.Parameters.FullBytes, &derivation) {
		return nil, errKeyForm
	}
	newHash := hashes[derivation.PRF.Algorithm.String()]
	with, known := ciphers[scheme.Scheme.Algorithm.String()]
	if newHash == nil || !known || !decoded(scheme.Scheme.Parameters.FullBytes, &vector) || derivation.Iterations > iterationsMax {
		return nil, errKeyForm
	}
	secret, err := pbkdf2.Key(newHash, password, derivation.Salt, derivation.Iterations, with.keyBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeyForm, err)
	}
	block, err := with.block(secret)
	if err != nil || len(vector) != block.BlockSize() || len(key.Data) == 0 || len(key.Data)%block.BlockSize() != 0 {
		return nil, errKeyForm
	}
	plain := make([]byte, len(key.Data))
	cipher.NewCBCDecrypter(block, vector).CryptBlocks(plain, key.Data)
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > block.BlockSize() {
		return nil, errKeyPassword
	}
	return plain[:len(plain)-padding], nil
}

func decoded(der []byte, to any) bool {
	rest, err := asn1.Unmarshal(der, to)
	return err == nil && len(rest) == 0
}
