package template

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/go-crypt/x/bcrypt"
)

// rare are functions of sprig for passwords and versions. Those that make private
// keys are left out: a template is filled at each boot, with another key each time.
var rare = template.FuncMap{
	"push": func(list any, v any) ([]any, error) {
		items, err := sequenceOf(list)
		return append(items, v), err
	},
	"slice": func(list any, bounds ...any) (any, error) {
		v := reflect.ValueOf(list)
		if !v.IsValid() || v.Kind() != reflect.Slice && v.Kind() != reflect.Array && v.Kind() != reflect.String {
			return nil, errors.New("slice: neither a list nor a text")
		}
		from, to := int64(0), int64(v.Len())
		if len(bounds) > 0 {
			from = integer(bounds[0])
		}
		if len(bounds) > 1 {
			to = integer(bounds[1])
		}
		if from < 0 || to > int64(v.Len()) || from > to {
			return nil, errors.New("slice: out of the list")
		}
		return v.Slice(int(from), int(to)).Interface(), nil
	},
	"must_date_modify": func(by string, t time.Time) (time.Time, error) {
		d, err := time.ParseDuration(by)
		return t.Add(d), err
	},
	"shuffle": func(text string) string {
		runes := []rune(text)
		for i := len(runes) - 1; i > 0; i-- {
			n, err := rand.Int(rand.Reader, big.NewInt(int64(i+1)))
			if err != nil {
				break
			}
			runes[i], runes[n.Int64()] = runes[n.Int64()], runes[i]
		}
		return string(runes)
	},
	"randBytes": func(n int) (string, error) {
		if n < 0 || n > maxText/2 {
			return "", errTooLong
		}
		b := make([]byte, n)
		_, _ = rand.Read(b) // never fails
		return base64.StdEncoding.EncodeToString(b), nil
	},
	"bcrypt": hash,
	"htpasswd": func(user, password string) (string, error) {
		if strings.Contains(user, ":") {
			return "", errors.New("htpasswd: a user's name has no colon")
		}
		h, err := hash(password)
		return user + ":" + h, err
	},
	"encryptAES": encryptAES, "decryptAES": decryptAES,
	"semver": semver.NewVersion,
	"semverCompare": func(constraint, version string) (bool, error) {
		c, err := semver.NewConstraint(constraint)
		if err != nil {
			return false, err
		}
		v, err := semver.NewVersion(version)
		return err == nil && c.Check(v), err
	},
}

func sequenceOf(list any) ([]any, error) {
	v := reflect.ValueOf(list)
	if !v.IsValid() || v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return nil, errors.New("not a list")
	}
	items := make([]any, v.Len())
	for i := range items {
		items[i] = v.Index(i).Interface()
	}
	return items, nil
}

func hash(password string) (string, error) {
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	return string(h), err
}

// aesKey is the password, filled with zeros or cut, as sprig has it.
func aesKey(password string) []byte {
	key := make([]byte, 32)
	copy(key, password)
	return key
}

// encryptAES encrypts by AES-256 in CBC, with the vector before the text, in base64.
func encryptAES(password, text string) (string, error) {
	block, err := aes.NewCipher(aesKey(password))
	if err != nil {
		return "", err
	}
	padding := aes.BlockSize - len(text)%aes.BlockSize
	data := append([]byte(text), []byte(strings.Repeat(string(rune(padding)), padding))...)
	out := make([]byte, aes.BlockSize+len(data))
	_, _ = rand.Read(out[:aes.BlockSize]) // never fails
	cipher.NewCBCEncrypter(block, out[:aes.BlockSize]).CryptBlocks(out[aes.BlockSize:], data)
	return base64.StdEncoding.EncodeToString(out), nil
}

func decryptAES(password, text string) (string, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(data) < 2*aes.BlockSize || len(data)%aes.BlockSize != 0 {
		return "", errors.New("decryptAES: not what encryptAES makes")
	}
	block, err := aes.NewCipher(aesKey(password))
	if err != nil {
		return "", err
	}
	vector, data := data[:aes.BlockSize], data[aes.BlockSize:]
	cipher.NewCBCDecrypter(block, vector).CryptBlocks(data, data)
	padding := int(data[len(data)-1])
	if padding == 0 || padding > aes.BlockSize {
		return "", errors.New("decryptAES: another password")
	}
	return string(data[:len(data)-padding]), nil
}
