package panel

func normalize([]float64, []float32, float64, []float32, []float64)                 { panic(missing) }
func normalizeGradient(_, _ []float32, _, _, _ []float64)                           { panic(missing) }
func addWide([]float64, []float32)                                                  { panic(missing) }
func narrowTo([]float32, []float64)                                                 { panic(missing) }
func rotate(_, _, _ []float32, _ bool)                                              { panic(missing) }
func swiglu(_, _, _ []float32)                                                      { panic(missing) }
func swigluGradient(_, _, _ []float32)                                              { panic(missing) }
func softmax([]float32, []*[Lanes]uint16, float32, []float32, []float32)            { panic(missing) }
func softmaxGradient(_, _ []float32, _ []*[Lanes]uint16, _ float32, _, _ []float32) { panic(missing) }
func scaleRows(_, _ []float32)                                                      { panic(missing) }
func addTo(_, _ []float32)                                                          { panic(missing) }
func scaleBy([]float32, float32)                                                    { panic(missing) }
func exponentials([]float32, float32, float32)                                      { panic(missing) }
func largest([]float32) float32                                                     { panic(missing) }
func gain(_, _ []float32)                                                           { panic(missing) }
func addProducts(_, _, _ []float32)                                                 { panic(missing) }
func difference(_, _ []float64, _ []float32)                                        { panic(missing) }
