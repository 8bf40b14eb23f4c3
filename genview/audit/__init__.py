"""The audit of generated views: are they like their originals, do they differ, what did they keep?"""
