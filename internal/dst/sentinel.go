package dst

func (c *checker) checkSentinels(k *command) {}
