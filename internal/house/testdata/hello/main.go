// Hello is what the size of an embedding program is compared with.
package main

import "fmt"

func main() { fmt.Println("hello, world") }
